"""Tensor names: parameter -> name, shape and layout of its tensor in a checkpoint.

One table a family and file format: CLIP and SigLIP in Hugging Face's and CLIP in OpenCLIP's here,
DINO and TIPSv2 in vision_families.py. Source:
the published directories of openai/clip-vit-base-patch16, google/siglip-base-patch16-224 and
laion/CLIP-ViT-B-32-laion2B-s34B-b79K.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from zeroseg_jax.teacher.checkpoints.config import HUGGING_FACE, OPEN_CLIP
from zeroseg_jax.teacher.checkpoints.layouts import Names, TensorName, linear, mlp, norm, stacked
from zeroseg_jax.teacher.checkpoints.vision_families import dino_names, tips_names, vit_names
from zeroseg_jax.teacher.towers import FAMILIES, ClipConfig, TowerConfig


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
    names |= norm("vision/pre_norm/norm", "vision_model.pre_layrnorm", width)
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
    names |= linear("text/projection", "text_model.head", config.text.width, config.embed_dim)
    names["logit_scale"] = TensorName("logit_scale", (1,))
    names["logit_bias"] = TensorName("logit_bias", (1,))
    return names | _text_tower(config, config.text)


def _vision_tower(config: ClipConfig) -> Names:
    width, patch = config.vision.width, config.patch_px
    tokens = (config.image_px // patch) ** 2 + FAMILIES[config.family].class_token
    at = "vision_model.embeddings"
    names = {
        "vision/patch_embedding/projection/kernel": TensorName(
            f"{at}.patch_embedding.weight", (width, 3, patch, patch), "patches"
        ),
        "vision/positions": TensorName(f"{at}.position_embedding.weight", (tokens, width)),
    }
    names |= norm("vision/post_norm/norm", "vision_model.post_layernorm", width)
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
    names |= norm("text/final_norm/norm", "text_model.final_layer_norm", tower.width)
    return names | _blocks("text", "text_model", tower)


def _pooling_head(tower: TowerConfig) -> Names:
    width, at = tower.width, "vision_model.head"
    names = {"vision/head/probe": TensorName(f"{at}.probe", (1, 1, width))}
    names |= stacked("vision/head/attention", f"{at}.attention.in_proj_", width)
    names |= linear("vision/head/attention/out", f"{at}.attention.out_proj", width, width)
    names |= norm("vision/head/norm/norm", f"{at}.layernorm", width)
    return names | mlp("vision/head/mlp", f"{at}.mlp", tower)


_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def _blocks(ours: str, theirs: str, tower: TowerConfig) -> Names:
    names: Names = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.encoder.layers.{i}"
        names |= norm(f"{left}/norm1/norm", f"{right}.layer_norm1", tower.width)
        names |= norm(f"{left}/norm2/norm", f"{right}.layer_norm2", tower.width)
        for part, name in _PROJECTIONS.items():
            names |= linear(
                f"{left}/attention/{part}", f"{right}.self_attn.{name}", tower.width, tower.width
            )
        names |= mlp(f"{left}/mlp", f"{right}.mlp", tower)
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
    names |= norm("vision/pre_norm/norm", "visual.ln_pre", width)
    names |= norm("vision/post_norm/norm", "visual.ln_post", width)
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
    names |= norm("text/final_norm/norm", "ln_final", width)
    return names | _open_clip_blocks("text", "transformer", config.text)


def _open_clip_blocks(ours: str, theirs: str, tower: TowerConfig) -> Names:
    names: Names = {}
    for i in range(tower.depth):
        left, right = f"{ours}/blocks_{i}", f"{theirs}.resblocks.{i}"
        names |= norm(f"{left}/norm1/norm", f"{right}.ln_1", tower.width)
        names |= norm(f"{left}/norm2/norm", f"{right}.ln_2", tower.width)
        names |= stacked(f"{left}/attention", f"{right}.attn.in_proj_", tower.width)
        out = f"{right}.attn.out_proj"
        names |= linear(f"{left}/attention/out", out, tower.width, tower.width)
        names |= mlp(f"{left}/mlp", f"{right}.mlp", tower, ("c_fc", "c_proj"))
    return names


# A new family, or a family in another file format, is one more entry.
_TABLES: dict[tuple[str, str], Callable[[ClipConfig], Names]] = {
    ("clip", HUGGING_FACE): _hugging_face_clip,
    ("clip", OPEN_CLIP): _open_clip,
    ("metaclip_2", HUGGING_FACE): _hugging_face_clip,
    ("siglip", HUGGING_FACE): _hugging_face_siglip,
    ("tipsv2", HUGGING_FACE): tips_names,
    ("dinov2", HUGGING_FACE): dino_names,
    ("dinov2_with_registers", HUGGING_FACE): dino_names,
    ("vit", HUGGING_FACE): vit_names,
}
# Last parts of tensors that no tower needs: buffers, the token of masked training, DINO's pooler.
UNUSED = ("position_ids", "attn_mask", "mask_token")
_POOLER = ("pooler.dense.weight", "pooler.dense.bias")
_BARE = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "head.")
_SPELLINGS = ((r"\.mlp\.c_fc\.", ".mlp.fc1."), (r"\.mlp\.c_proj\.", ".mlp.fc2."))


def is_unused(name: str, config: ClipConfig) -> bool:
    """Return whether a tensor of a checkpoint is known and needed by no tower."""
    return name.rpartition(".")[2] in UNUSED or (config.family == "vit" and name in _POOLER)


def rename(name: str, config: ClipConfig) -> str:
    """Return the table's name of a stored tensor, for exports that spell it in another way."""
    # transformers 5 exports a vision tower without its prefix.
    if config.text is None and FAMILIES[config.family].text and name.startswith(_BARE):
        return f"vision_model.{name}"
    # transformers writes the vision tower's MLP as the text tower's; the published files do not.
    if config.family == "tipsv2" and name.startswith("vision_encoder."):
        for pattern, ours in _SPELLINGS:
            name = re.sub(pattern, ours, name)
    return name
