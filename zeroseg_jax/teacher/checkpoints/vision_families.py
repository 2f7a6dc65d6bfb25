"""Settings and tensor names of DINO v1, DINOv2 and TIPSv2 in Hugging Face's format.

Source: the configuration classes of transformers and the directories that they save; the published
directories of facebook/dino-vitb8, facebook/dinov2-with-registers-base and google/tipsv2-b14.
"""

from __future__ import annotations

from typing import Any

from zeroseg_jax.teacher.checkpoints.config_fields import (
    CheckpointError,
    positive,
    read_group,
    read_tower,
)
from zeroseg_jax.teacher.checkpoints.layouts import Names, TensorName, linear, mlp, norm, stacked
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig

MODEL_TYPES = ("tipsv2", "dinov2", "dinov2_with_registers", "vit")
_VISION: dict[str, Any] = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "gelu",
    "image_size": 224, "patch_size": 14, "mlp_ratio": 4, "layer_norm_eps": 1e-6,
    "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "dinov2": _VISION,
    "dinov2_with_registers": {**_VISION, "num_register_tokens": 4},
    "vit": {**_VISION, "patch_size": 16, "intermediate_size": 3072, "layer_norm_eps": 1e-12},
    "tipsv2": {**_VISION, "image_size": 448, "num_register_tokens": 1},
}
_TIPS_TEXT: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "hidden_act": "relu", "layer_norm_eps": 1e-5, "vocab_size": 32000,
    "max_position_embeddings": 64, "scale_sqrt_depth": True,
}  # fmt: skip
_TEMPERATURE = 0.005065968260169029  # transformers' default, that of the published B/14


def read(raw: dict[str, Any]) -> ClipConfig:
    """Return the settings of a tower of MODEL_TYPES, of both towers for TIPSv2.

    Raises:
      CheckpointError: a setting is not supported.
    """
    family = raw["model_type"]
    own = read_group(raw, "vision_config") if family == "tipsv2" else raw
    vision = {**_DEFAULTS[family], **own}
    if vision["use_swiglu_ffn"]:
        raise CheckpointError(
            "use_swiglu_ffn is true, the SwiGLU of the giant models, which is not supported; use "
            "a base or large one."
        )
    if not vision["qkv_bias"]:
        raise CheckpointError("qkv_bias is false; only towers with biases are read.")
    if family != "vit":
        wide = positive(vision, "hidden_size") * positive(vision, "mlp_ratio", float)
        vision["intermediate_size"] = int(wide)
    text = {**_TIPS_TEXT, **read_group(raw, "text_config")} if family == "tipsv2" else None
    if text is not None:
        _check_text(text, vision["hidden_size"])
    temperature = {"temperature": _TEMPERATURE}
    if isinstance(raw.get("temperature_init_value"), int | float):
        temperature["temperature"] = raw["temperature_init_value"]
    registers = vision.get("num_register_tokens", 0)
    return ClipConfig(
        vision=read_tower(vision),
        text=None if text is None else read_tower(text),
        embed_dim=vision["hidden_size"],
        image_px=vision["image_size"],
        patch_px=vision["patch_size"],
        family=family,
        vocabulary=0 if text is None else text["vocab_size"],
        context_tokens=0 if text is None else text["max_position_embeddings"],
        registers=positive({"num_register_tokens": registers}, "num_register_tokens")
        if registers
        else 0,
        temperature=positive(temperature, "temperature", float) if family == "tipsv2" else 0.0,
    )


def _check_text(text: dict[str, Any], width: Any) -> None:
    if text["hidden_size"] != width:
        raise CheckpointError(
            f"hidden_size of the text tower is {text['hidden_size']}, but the vision tower's is "
            f"{width}; they must be equal."
        )
    if not text["scale_sqrt_depth"]:
        raise CheckpointError("scale_sqrt_depth is false; only scaled token embeddings are read.")


def dino_names(config: ClipConfig) -> Names:
    """Map parameters of DINOv2, with or without registers, to tensors."""
    names = _embeddings(config, "embeddings", _HUGGING_FACE)
    names |= norm("vision/post_norm/norm", "layernorm", config.vision.width)
    for i in range(config.vision.depth):
        left, right = f"vision/blocks_{i}", f"encoder.layer.{i}"
        names |= _norms(left, right, ("norm1", "norm2"), config.vision)
        names |= _attention(left, f"{right}.attention", config.vision)
        names |= mlp(f"{left}/mlp", f"{right}.mlp", config.vision)
        names |= _layer_scales(left, right, "layer_scale{}.lambda1", config.vision)
    return names


def vit_names(config: ClipConfig) -> Names:
    """Map parameters of DINO v1, a plain ViT, to tensors."""
    tower = config.vision
    names = _embeddings(config, "embeddings", _HUGGING_FACE)
    names |= norm("vision/post_norm/norm", "layernorm", tower.width)
    for i in range(tower.depth):
        left, right = f"vision/blocks_{i}", f"encoder.layer.{i}"
        names |= _norms(left, right, ("layernorm_before", "layernorm_after"), tower)
        names |= _attention(left, f"{right}.attention", tower)
        names |= mlp(f"{left}/mlp", right, tower, ("intermediate.dense", "output.dense"))
    return names


def tips_names(config: ClipConfig) -> Names:
    """Map parameters of TIPSv2 to tensors."""
    names = _tips_vision(config)
    text = config.text
    if text is None:
        return names
    at = "text_encoder"
    names["text/token_embedding/embedding"] = TensorName(
        f"{at}.token_embedding.weight", (config.vocabulary, text.width)
    )
    names["temperature"] = TensorName("temperature", (), optional=True)
    names |= norm("text/final_norm/norm", f"{at}.ln_final", text.width)
    for i in range(text.depth):
        left, right = f"text/blocks_{i}", f"{at}.transformer.resblocks.{i}"
        names |= _norms(left, right, ("ln_1", "ln_2"), text)
        names |= stacked(f"{left}/attention", f"{right}.attn.in_proj_", text.width)
        out = f"{right}.attn.out_proj"
        names |= linear(f"{left}/attention/out", out, text.width, text.width)
        names |= mlp(f"{left}/mlp", f"{right}.mlp", text, ("c_fc", "c_proj"))
    return names


def _tips_vision(config: ClipConfig) -> Names:
    tower, at = config.vision, "vision_encoder"
    names = _embeddings(config, at, ("patch_embed.proj", "pos_embed"))
    names |= norm("vision/post_norm/norm", f"{at}.norm", tower.width)
    for i in range(tower.depth):
        left, right = f"vision/blocks_{i}", f"{at}.blocks.{i}"
        names |= _norms(left, right, ("norm1", "norm2"), tower)
        names |= stacked(f"{left}/attention", f"{right}.attn.qkv.", tower.width)
        names |= linear(f"{left}/attention/out", f"{right}.attn.proj", tower.width, tower.width)
        names |= mlp(f"{left}/mlp", f"{right}.mlp", tower)
        names |= _layer_scales(left, right, "ls{}.gamma", tower)
    return names


_HUGGING_FACE = ("patch_embeddings.projection", "position_embeddings")


def _embeddings(config: ClipConfig, at: str, theirs: tuple[str, str]) -> Names:
    width, patch = config.vision.width, config.patch_px
    tokens = 1 + (config.image_px // patch) ** 2
    projection = f"{at}.{theirs[0]}"
    names = {
        "vision/patch_embedding/projection/kernel": TensorName(
            f"{projection}.weight", (width, 3, patch, patch), "patches"
        ),
        "vision/patch_embedding/projection/bias": TensorName(f"{projection}.bias", (width,)),
        "vision/class_token": TensorName(f"{at}.cls_token", (1, 1, width), leading=2),
        "vision/positions": TensorName(f"{at}.{theirs[1]}", (1, tokens, width), leading=1),
    }
    if config.registers:
        names["vision/register_tokens"] = TensorName(
            f"{at}.register_tokens", (1, config.registers, width), leading=1
        )
    return names


def _norms(ours: str, theirs: str, names: tuple[str, str], tower: TowerConfig) -> Names:
    first = norm(f"{ours}/norm1/norm", f"{theirs}.{names[0]}", tower.width)
    return first | norm(f"{ours}/norm2/norm", f"{theirs}.{names[1]}", tower.width)


def _attention(ours: str, theirs: str, tower: TowerConfig) -> Names:
    names: Names = {}
    for part in ("query", "key", "value"):
        at = f"{theirs}.attention.{part}"
        names |= linear(f"{ours}/attention/{part}", at, tower.width, tower.width)
    out = f"{theirs}.output.dense"
    return names | linear(f"{ours}/attention/out", out, tower.width, tower.width)


def _layer_scales(ours: str, theirs: str, name: str, tower: TowerConfig) -> Names:
    return {
        f"{ours}/scale{i}": TensorName(f"{theirs}.{name.format(i)}", (tower.width,)) for i in (1, 2)
    }
