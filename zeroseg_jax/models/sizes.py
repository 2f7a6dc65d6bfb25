"""Named model sizes (vit_s16, vit_b16, vit_l16, playground) as overrides of ModelConfig."""

from __future__ import annotations

from typing import Any


def _vit(width: int, depth: int, heads: int) -> dict[str, Any]:
    return {
        "image_px": 224,
        "embed_dim": 768,
        "encoder": {"width": width, "depth": depth, "heads": heads, "patch_px": 16},
        "decoder": {"width": 512, "depth": 8, "heads": 16},
        "head": {"width": width, "heads": heads, "z_hidden": 2048},
    }


SIZES: dict[str, dict[str, Any]] = {
    "vit_s16": _vit(384, 12, 6),
    "vit_b16": _vit(768, 12, 12),  # the size in the paper
    "vit_l16": _vit(1024, 24, 16),
    # Playground: 12 x 12 patches, the paper's depths of head and decoder, but narrow. The encoder
    # has the size of the Playground's CLIP, whose weights can initialise it.
    "playground": {
        "image_px": 96,
        "embed_dim": 128,
        "encoder": {"width": 128, "depth": 4, "heads": 2, "patch_px": 8},
        "decoder": {"width": 64, "depth": 8, "heads": 4},
        "head": {"width": 128, "heads": 4, "z_hidden": 256},
    },
}
