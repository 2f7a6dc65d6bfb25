"""Where every tensor of a teacher stands on disk, what it is called here and how it is turned.

One table a layout: Hugging Face's CLIP and SigLIP, and OpenCLIP's own. Source: the published
directories of openai/clip-vit-base-patch16, google/siglip-base-patch16-224 and
laion/CLIP-ViT-B-32-laion2B-s34B-b79K.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, OPEN_CLIP
from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig


@dataclasses.dataclass(frozen=True)
class Slot:
    """One tensor on disk.

    Attributes:
      name: on disk.
      shape: on disk.
      turn: "as is", "transpose", or "patches" for a convolution's (D, 3, p, p).
      third: 0, 1 or 2 where the tensor stacks query, key and value along its rows.
    """

    name: str
    shape: tuple[int, ...]
    turn: str = "as is"
    third: int | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """Return the first row on disk that is meant, and how many are; a scalar is one row."""
        size = self.shape[0] if self.shape else 1
        if self.third is None:
            return 0, size
        return self.third * (size // 3), size // 3

    @property
    def turned_shape(self) -> tuple[int, ...]:
        """Return our shape of what is meant; a scalar as one row."""
        _, count = self.rows
        if self.turn == "as is":
            return (count, *self.shape[1:])
        return math.prod(self.shape[1:]), count


def build_slots(config: ClipConfig, layout: str = HUGGING_FACE) -> dict[str, Slot]:
    """Map our leaf names to where they stand on disk.

    Args:
      config: sizes and family.
      layout: what find_layout returned.
    """
    if layout == OPEN_CLIP:
        return _open_clip_slots(config)
    slots = _vision_slots(config)
    if config.text is not None:
        slots |= _text_slots(config)
        slots["logit_scale"] = Slot("logit_scale", (1,) if config.family == "siglip" else ())
        if config.family == "siglip":
            slots["logit_bias"] = Slot("logit_bias", (1,))
    return slots


def _vision_slots(config: ClipConfig) -> dict[str, Slot]:
    width, patch = config.vision.width, config.patch_px
    siglip = config.family == "siglip"
    grid = (config.image_px // patch) ** 2
    at = "vision_model.embeddings"
    kernel = "vision/patch_embedding/projection/kernel"
    slots = {
        kernel: Slot(f"{at}.patch_embedding.weight", (width, 3, patch, patch), "patches"),
        "vision/positions": Slot(f"{at}.position_embedding.weight", (grid + (not siglip), width)),
    }
    slots |= _norm("vision/post_norm/norm", "vision_model.post_layernorm", width)
    slots |= _blocks("vision", "vision_model", config.vision)
    if siglip:
        slots["vision/patch_embedding/projection/bias"] = Slot(
            f"{at}.patch_embedding.bias", (width,)
        )
        return slots | _pooling_head(config.vision)
    slots["vision/class_token"] = Slot(f"{at}.class_embedding", (width,))
    slots["vision/projection/kernel"] = Slot(
        "visual_projection.weight", (config.embed_dim, width), "transpose"
    )
    # The misspelling is Hugging Face's.
    return slots | _norm("vision/pre_norm/norm", "vision_model.pre_layrnorm", width)


def _pooling_head(tower: TowerConfig) -> dict[str, Slot]:
    width, at = tower.width, "vision_model.head"
    slots = {"vision/head/probe": Slot(f"{at}.probe", (1, 1, width))}
    slots |= _stacked("vision/head/attention", f"{at}.attention", width)
    slots |= _linear("vision/head/attention/out", f"{at}.attention.out_proj", width, width)
    slots |= _norm("vision/head/norm/norm", f"{at}.layernorm", width)
    return slots | _mlp("vision/head/mlp", f"{at}.mlp", tower)


def _text_slots(config: ClipConfig) -> dict[str, Slot]:
    width = config.text.width
    at = "text_model.embeddings"
    slots = {
        "text/token_embedding/embedding": Slot(
            f"{at}.token_embedding.weight", (config.vocabulary, width)
        ),
        "text/positions": Slot(f"{at}.position_embedding.weight", (config.context_tokens, width)),
    }
    if config.family == "siglip":
        slots |= _linear("text/projection", "text_model.head", width, config.embed_dim)
    else:
        slots["text/projection/kernel"] = Slot(
            "text_projection.weight", (config.embed_dim, width), "transpose"
        )
    slots |= _norm("text/final_norm/norm", "text_model.final_layer_norm", width)
    return slots | _blocks("text", "text_model", config.text)


def _norm(ours: str, theirs: str, width: int) -> dict[str, Slot]:
    return {
        f"{ours}/scale": Slot(f"{theirs}.weight", (width,)),
        f"{ours}/bias": Slot(f"{theirs}.bias", (width,)),
    }


def _linear(ours: str, theirs: str, inputs: int, outputs: int) -> dict[str, Slot]:
    return {
        f"{ours}/kernel": Slot(f"{theirs}.weight", (outputs, inputs), "transpose"),
        f"{ours}/bias": Slot(f"{theirs}.bias", (outputs,)),
    }


def _mlp(ours: str, theirs: str, tower: TowerConfig, names=("fc1", "fc2")) -> dict[str, Slot]:
    first = _linear(f"{ours}/fc1", f"{theirs}.{names[0]}", tower.width, tower.mlp_width)
    return first | _linear(f"{ours}/fc2", f"{theirs}.{names[1]}", tower.mlp_width, tower.width)


def _stacked(ours: str, theirs: str, width: int) -> dict[str, Slot]:
    """torch.nn.MultiheadAttention's one tensor for query, key and value."""
    slots = {}
    for third, part in enumerate(("query", "key", "value")):
        kernel = Slot(f"{theirs}.in_proj_weight", (3 * width, width), "transpose", third)
        slots[f"{ours}/{part}/kernel"] = kernel
        slots[f"{ours}/{part}/bias"] = Slot(f"{theirs}.in_proj_bias", (3 * width,), third=third)
    return slots


_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def _blocks(ours: str, theirs: str, tower: TowerConfig) -> dict[str, Slot]:
    slots = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.encoder.layers.{i}"
        slots |= _norm(f"{left}/norm1/norm", f"{right}.layer_norm1", tower.width)
        slots |= _norm(f"{left}/norm2/norm", f"{right}.layer_norm2", tower.width)
        for mine, other in _PROJECTIONS.items():
            slots |= _linear(
                f"{left}/attention/{mine}", f"{right}.self_attn.{other}", tower.width, tower.width
            )
        slots |= _mlp(f"{left}/mlp", f"{right}.mlp", tower)
    return slots


def _open_clip_slots(config: ClipConfig) -> dict[str, Slot]:
    width, patch = config.vision.width, config.patch_px
    grid = (config.image_px // patch) ** 2
    kernel = "vision/patch_embedding/projection/kernel"
    slots = {
        kernel: Slot("visual.conv1.weight", (width, 3, patch, patch), "patches"),
        "vision/class_token": Slot("visual.class_embedding", (width,)),
        "vision/positions": Slot("visual.positional_embedding", (1 + grid, width)),
        "vision/projection/kernel": Slot("visual.proj", (width, config.embed_dim)),
    }
    slots |= _norm("vision/pre_norm/norm", "visual.ln_pre", width)
    slots |= _norm("vision/post_norm/norm", "visual.ln_post", width)
    slots |= _open_clip_blocks("vision", "visual.transformer", config.vision)
    if config.text is None:
        return slots
    width = config.text.width
    slots |= {
        "text/token_embedding/embedding": Slot(
            "token_embedding.weight", (config.vocabulary, width)
        ),
        "text/positions": Slot("positional_embedding", (config.context_tokens, width)),
        "text/projection/kernel": Slot("text_projection", (width, config.embed_dim)),
        "logit_scale": Slot("logit_scale", ()),
    }
    slots |= _norm("text/final_norm/norm", "ln_final", width)
    return slots | _open_clip_blocks("text", "transformer", config.text)


def _open_clip_blocks(ours: str, theirs: str, tower: TowerConfig) -> dict[str, Slot]:
    slots = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.resblocks.{i}"
        slots |= _norm(f"{left}/norm1/norm", f"{right}.ln_1", tower.width)
        slots |= _norm(f"{left}/norm2/norm", f"{right}.ln_2", tower.width)
        slots |= _stacked(f"{left}/attention", f"{right}.attn", tower.width)
        out = f"{right}.attn.out_proj"
        slots |= _linear(f"{left}/attention/out", out, tower.width, tower.width)
        slots |= _mlp(f"{left}/mlp", f"{right}.mlp", tower, ("c_fc", "c_proj"))
    return slots


def from_disk(slot: Slot, value: np.ndarray) -> np.ndarray:
    """Turn a tensor as it stands on disk (its rows already taken) into ours; a view."""
    if slot.turn == "patches":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T if slot.turn == "transpose" else value


def to_hf(params: dict[str, Any], config: ClipConfig) -> dict[str, np.ndarray]:
    """Turn our nested params of a CLIP into Hugging Face's flat names and layouts, float32."""
    flat = {}
    for ours, slot in build_slots(config).items():
        value: Any = params
        for part in ours.split("/"):
            value = value[part]
        value = np.asarray(value, np.float32)
        if slot.turn == "patches":
            width, channels, patch, _ = slot.shape
            value = value.reshape(patch, patch, channels, width).transpose(3, 2, 0, 1)
        elif slot.turn == "transpose":
            value = value.T
        flat[slot.name] = np.array(value.reshape(slot.shape), order="C")
    return flat
