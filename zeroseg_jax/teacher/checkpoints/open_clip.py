"""Teacher settings from OpenCLIP's open_clip_config.json."""

from __future__ import annotations

from typing import Any

from zeroseg_jax.teacher.checkpoints.config_fields import CheckpointError, positive, read_group
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

# OpenCLIP's defaults of the fields that are read.
_OPEN_CLIP_DEFAULTS: dict[str, dict[str, Any]] = {
    "model_cfg": {"quick_gelu": False},
    "vision_cfg": {
        "layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16,
        "image_size": 224,
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12,
        "mlp_ratio": 4.0,
    },
}  # fmt: skip
# Settings that do not affect inference (...), and accepted values of the others.
_ACCEPTED: dict[str, Any] = {
    "patch_dropout": ..., "hf_tokenizer_name": ..., "tokenizer_kwargs": ..., "text_mask": ...,
    "attn_pooler_queries": ..., "attn_pooler_heads": ..., "n_queries": ..., "pad_id": ...,
    "eos_id": ..., "init_logit_scale": ..., "cast_dtype": ..., "output_dict": ...,
    "embed_dim": ..., "vision_cfg": ..., "text_cfg": ...,
    "pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",),
}  # fmt: skip


def _read_part(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a group of OpenCLIP's settings over the defaults; refuse unsupported settings."""
    part = read_group(raw, name)
    if part.get("timm_model_name") or part.get("hf_model_name"):
        other = part.get("timm_model_name") or part.get("hf_model_name")
        raise CheckpointError(
            f"{name} uses {other!r}, a tower of another library; use the model in Hugging Face's "
            "format (SigLIP: google/siglip-...)."
        )
    for field, value in part.items():
        known = _ACCEPTED.get(field, ())
        if field in _OPEN_CLIP_DEFAULTS[name] or known is ... or value in (None, False, {}, *known):
            continue
        raise CheckpointError(
            f"{name}.{field} is {value!r}, which changes the towers and is not supported."
        )
    return {**_OPEN_CLIP_DEFAULTS[name], **part}


def read_open_clip(raw: dict[str, Any]) -> ClipConfig:
    """Return the settings of both towers.

    Raises:
      CheckpointError: a setting is of another type or not supported.
    """
    model = _read_part(raw, "model_cfg")
    vision, text = (_read_part(model, name) for name in ("vision_cfg", "text_cfg"))
    if isinstance(vision["layers"], list):
        raise CheckpointError("vision_cfg.layers is a list: this is a ResNet, use a ViT.")
    if not isinstance(model["quick_gelu"], bool):
        raise CheckpointError(f"quick_gelu is {model['quick_gelu']!r}; it must be true or false.")
    activation = "quick_gelu" if model["quick_gelu"] else "gelu"

    def tower(part: dict[str, Any], heads: Any) -> TowerConfig:
        # Truncated as OpenCLIP does: bigG's 1664 * 4.9231 is 8192.04.
        wide = int(positive(part, "width") * positive(part, "mlp_ratio", float))
        return TowerConfig(part["width"], part["layers"], heads, wide, activation, 1e-5)

    return ClipConfig(
        vision=tower(vision, positive(vision, "width") // positive(vision, "head_width")),
        text=tower(text, text["heads"]),
        embed_dim=model["embed_dim"],
        image_px=vision["image_size"],
        patch_px=vision["patch_size"],
        vocabulary=text["vocab_size"],
        context_tokens=text["context_length"],
        end_token=positive(text, "vocab_size") - 1,
    )
