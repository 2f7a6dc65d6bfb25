"""Tensor names: parameter -> name, shape and layout of its tensor in a checkpoint.

One table a family and file format: CLIP and SigLIP in Hugging Face's, CLIP in OpenCLIP's. Source:
the published directories of openai/clip-vit-base-patch16, google/siglip-base-patch16-224 and
laion/CLIP-ViT-B-32-laion2B-s34B-b79K.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, OPEN_CLIP
from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig


@dataclasses.dataclass(frozen=True)
class TensorName:
    """The tensor of one parameter in a checkpoint.

    Attributes:
      name: name in the file.
      shape: shape in the file.
      layout: "same", "transposed", or "patches" for a convolution's (D, 3, p, p).
      qkv_index: 0, 1 or 2 for the query, key or value rows of a tensor that stacks the three.
    """

    name: str
    shape: tuple[int, ...]
    layout: str = "same"
    qkv_index: int | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """First row and number of rows of the parameter; a scalar is one row."""
        size = self.shape[0] if self.shape else 1
        if self.qkv_index is None:
            return 0, size
        return self.qkv_index * (size // 3), size // 3

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the parameter; (1,) for a scalar."""
        _, count = self.rows
        if self.layout == "same":
            return (count, *self.shape[1:])
        return math.prod(self.shape[1:]), count


Names = dict[str, TensorName]


def list_tensors(config: ClipConfig, config_file: str = HUGGING_FACE) -> Names:
    """Map parameter names ("vision/blocks_0/mlp/fc1/kernel") to tensors of the checkpoint.

    Args:
      config: sizes and family.
      config_file: HUGGING_FACE or OPEN_CLIP.
    """
    return _TABLES[config.family, config_file](config)


def _hugging_face_clip(config: ClipConfig) -> Names:
    width = config.vision.width
    names = _vision_tower(config)
    names["vision/class_token"] = TensorName("vision_model.embeddings.class_embedding", (width,))
    names["vision/projection/kernel"] = TensorName(
        "visual_projection.weight", (config.embed_dim, width), "transposed"
    )
    # The misspelling is Hugging Face's.
    names |= _norm("vision/pre_norm/norm", "vision_model.pre_layrnorm", width)
    if config.text is None:
        return names
    names["text/projection/kernel"] = TensorName(
        "text_projection.weight", (config.embed_dim, config.text.width), "transposed"
    )
    names["logit_scale"] = TensorName("logit_scale", ())
    return names | _text_tower(config, config.text)


def _hugging_face_siglip(config: ClipConfig) -> Names:
    width = config.vision.width
    names = _vision_tower(config)
    names["vision/patch_embedding/projection/bias"] = TensorName(
        "vision_model.embeddings.patch_embedding.bias", (width,)
    )
    names |= _pooling_head(config.vision)
    if config.text is None:
        return names
    names |= _linear("text/projection", "text_model.head", config.text.width, config.embed_dim)
    names["logit_scale"] = TensorName("logit_scale", (1,))
    names["logit_bias"] = TensorName("logit_bias", (1,))
    return names | _text_tower(config, config.text)


def _vision_tower(config: ClipConfig) -> Names:
    width, patch = config.vision.width, config.patch_px
    tokens = (config.image_px // patch) ** 2 + (config.family == "clip")
    at = "vision_model.embeddings"
    names = {
        "vision/patch_embedding/projection/kernel": TensorName(
            f"{at}.patch_embedding.weight", (width, 3, patch, patch), "patches"
        ),
        "vision/positions": TensorName(f"{at}.position_embedding.weight", (tokens, width)),
    }
    names |= _norm("vision/post_norm/norm", "vision_model.post_layernorm", width)
    return names | _blocks("vision", "vision_model", config.vision)


def _text_tower(config: ClipConfig, tower: TowerConfig) -> Names:
    at = "text_model.embeddings"
    names = {
        "text/token_embedding/embedding": TensorName(
            f"{at}.token_embedding.weight", (config.vocabulary, tower.width)
        ),
        "text/positions": TensorName(
            f"{at}.position_embedding.weight", (config.context_tokens, tower.width)
        ),
    }
    names |= _norm("text/final_norm/norm", "text_model.final_layer_norm", tower.width)
    return names | _blocks("text", "text_model", tower)


def _pooling_head(tower: TowerConfig) -> Names:
    width, at = tower.width, "vision_model.head"
    names = {"vision/head/probe": TensorName(f"{at}.probe", (1, 1, width))}
    names |= _stacked("vision/head/attention", f"{at}.attention", width)
    names |= _linear("vision/head/attention/out", f"{at}.attention.out_proj", width, width)
    names |= _norm("vision/head/norm/norm", f"{at}.layernorm", width)
    return names | _mlp("vision/head/mlp", f"{at}.mlp", tower)


def _norm(ours: str, theirs: str, width: int) -> Names:
    return {
        f"{ours}/scale": TensorName(f"{theirs}.weight", (width,)),
        f"{ours}/bias": TensorName(f"{theirs}.bias", (width,)),
    }


def _linear(ours: str, theirs: str, inputs: int, outputs: int) -> Names:
    return {
        f"{ours}/kernel": TensorName(f"{theirs}.weight", (outputs, inputs), "transposed"),
        f"{ours}/bias": TensorName(f"{theirs}.bias", (outputs,)),
    }


def _mlp(
    ours: str, theirs: str, tower: TowerConfig, layers: tuple[str, str] = ("fc1", "fc2")
) -> Names:
    first = _linear(f"{ours}/fc1", f"{theirs}.{layers[0]}", tower.width, tower.mlp_width)
    return first | _linear(f"{ours}/fc2", f"{theirs}.{layers[1]}", tower.mlp_width, tower.width)


def _stacked(ours: str, theirs: str, width: int) -> Names:
    """Return names for torch.nn.MultiheadAttention's stacked query, key and value."""
    names = {}
    for i, part in enumerate(("query", "key", "value")):
        kernel = TensorName(f"{theirs}.in_proj_weight", (3 * width, width), "transposed", i)
        names[f"{ours}/{part}/kernel"] = kernel
        names[f"{ours}/{part}/bias"] = TensorName(
            f"{theirs}.in_proj_bias", (3 * width,), qkv_index=i
        )
    return names


_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def _blocks(ours: str, theirs: str, tower: TowerConfig) -> Names:
    names: Names = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.encoder.layers.{i}"
        names |= _norm(f"{left}/norm1/norm", f"{right}.layer_norm1", tower.width)
        names |= _norm(f"{left}/norm2/norm", f"{right}.layer_norm2", tower.width)
        for part, name in _PROJECTIONS.items():
            names |= _linear(
                f"{left}/attention/{part}", f"{right}.self_attn.{name}", tower.width, tower.width
            )
        names |= _mlp(f"{left}/mlp", f"{right}.mlp", tower)
    return names


def _open_clip(config: ClipConfig) -> Names:
    width, patch = config.vision.width, config.patch_px
    grid = (config.image_px // patch) ** 2
    names = {
        "vision/patch_embedding/projection/kernel": TensorName(
            "visual.conv1.weight", (width, 3, patch, patch), "patches"
        ),
        "vision/class_token": TensorName("visual.class_embedding", (width,)),
        "vision/positions": TensorName("visual.positional_embedding", (1 + grid, width)),
        "vision/projection/kernel": TensorName("visual.proj", (width, config.embed_dim)),
    }
    names |= _norm("vision/pre_norm/norm", "visual.ln_pre", width)
    names |= _norm("vision/post_norm/norm", "visual.ln_post", width)
    names |= _open_clip_blocks("vision", "visual.transformer", config.vision)
    if config.text is None:
        return names
    width = config.text.width
    names |= {
        "text/token_embedding/embedding": TensorName(
            "token_embedding.weight", (config.vocabulary, width)
        ),
        "text/positions": TensorName("positional_embedding", (config.context_tokens, width)),
        "text/projection/kernel": TensorName("text_projection", (width, config.embed_dim)),
        "logit_scale": TensorName("logit_scale", ()),
    }
    names |= _norm("text/final_norm/norm", "ln_final", width)
    return names | _open_clip_blocks("text", "transformer", config.text)


def _open_clip_blocks(ours: str, theirs: str, tower: TowerConfig) -> Names:
    names: Names = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.resblocks.{i}"
        names |= _norm(f"{left}/norm1/norm", f"{right}.ln_1", tower.width)
        names |= _norm(f"{left}/norm2/norm", f"{right}.ln_2", tower.width)
        names |= _stacked(f"{left}/attention", f"{right}.attn", tower.width)
        out = f"{right}.attn.out_proj"
        names |= _linear(f"{left}/attention/out", out, tower.width, tower.width)
        names |= _mlp(f"{left}/mlp", f"{right}.mlp", tower, ("c_fc", "c_proj"))
    return names


# A new family, or a family in another file format, is one more entry.
_TABLES: dict[tuple[str, str], Callable[[ClipConfig], Names]] = {
    ("clip", HUGGING_FACE): _hugging_face_clip,
    ("clip", OPEN_CLIP): _open_clip,
    ("siglip", HUGGING_FACE): _hugging_face_siglip,
}


def to_parameter(tensor: TensorName, value: np.ndarray) -> np.ndarray:
    """Return the parameter of a tensor's rows, as a view in our layout."""
    if tensor.layout == "patches":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T if tensor.layout == "transposed" else value
