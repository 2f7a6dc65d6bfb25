"""Teacher settings from config.json of CLIP and SigLIP, or from open_clip_config.json.

Fields and defaults are those of Hugging Face's CLIPConfig and SiglipConfig, and of OpenCLIP's
model_cfg.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from zeroseg_jax.data import files
from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig

HUGGING_FACE, OPEN_CLIP = "config.json", "open_clip_config.json"
WEIGHTS = {HUGGING_FACE: "model.safetensors", OPEN_CLIP: "open_clip_model.safetensors"}


class CheckpointError(ValueError):
    """A teacher directory that cannot be read; the message is one sentence."""


def find_config_file(directory: Path) -> str:
    """Return the name of the config file, HUGGING_FACE or OPEN_CLIP.

    Many published directories hold both; then it is the one whose weights are there too.

    Raises:
      CheckpointError: there is no config file.
    """
    found = [name for name in WEIGHTS if (directory / name).is_file()]
    if not found:
        raise CheckpointError(
            f"{directory}: no config.json or open_clip_config.json there; give a directory in "
            "Hugging Face's or OpenCLIP's format."
        )
    for name in found:
        weights = directory / WEIGHTS[name]
        if weights.is_file() or weights.with_name(f"{weights.name}.index.json").is_file():
            return name
    return found[0]


def read_config(directory: Path, config_file: str | None = None) -> ClipConfig:
    """Read the settings of both towers, or of a vision tower that was exported alone.

    Args:
      directory: directory of the checkpoint.
      config_file: HUGGING_FACE or OPEN_CLIP; None for the one that find_config_file returns.

    Raises:
      CheckpointError: the config is missing or not JSON, or a field is missing, of another type
        or not supported.
    """
    config_file = config_file or find_config_file(directory)
    path = directory / config_file
    raw = read_object(path)
    try:
        config = _from_open_clip(raw) if config_file == OPEN_CLIP else _from_hugging_face(raw)
        _check_numbers(config)
    except KeyError as error:
        raise CheckpointError(f"{path}: the field {error.args[0]!r} is missing.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return config


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
      CheckpointError: the file is not JSON, or not an object.
    """
    try:
        return files.read_json(path, remedy="fetch the file again")
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _group(raw: dict[str, Any], name: str) -> dict[str, Any]:
    part = raw.get(name)
    if part is not None and not isinstance(part, dict):
        raise CheckpointError(f"{name} is {part!r}; it must be an object.")
    return part or {}


# Defaults of Hugging Face's config classes, for fields that a config.json leaves out. A new family
# needs an entry here and in _MODEL_TYPES.
_TOWER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_VISION = {**_TOWER, "image_size": 224, "patch_size": 32}
_DEFAULTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # vision, text
    "clip": (
        {**_VISION, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        },
    ),
    "siglip": (
        {
            **_VISION,
            "patch_size": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        {
            **_TOWER,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "eos_token_id": 49407,
        },
    ),
}
# model_type -> family, and whether the text tower is there.
_MODEL_TYPES = {
    "clip": ("clip", True),
    "clip_vision_model": ("clip", False),
    "siglip": ("siglip", True),
    "siglip_vision_model": ("siglip", False),
}
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def _from_hugging_face(raw: dict[str, Any]) -> ClipConfig:
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in _MODEL_TYPES:
        # SigLIP 2 models of fixed size have model_type "siglip".
        hint = "; use a SigLIP 2 of fixed size, not NaFlex" if kind == "siglip2" else ""
        raise CheckpointError(
            f"model_type is {kind!r}, not one of {', '.join(_MODEL_TYPES)}{hint}."
        )
    family, both = _MODEL_TYPES[kind]
    vision = _merge(raw, "vision_config", family) if both else {**_DEFAULTS[family][0], **raw}
    text = _merge(raw, "text_config", family) if both else None
    if family == "siglip":
        embed_dim = _siglip_width(vision, text)
    else:
        embed_dim = raw.get("projection_dim", vision.get("projection_dim", 512))
    return ClipConfig(
        vision=_tower(vision),
        text=None if text is None else _tower(text),
        embed_dim=embed_dim,
        image_px=vision["image_size"],
        patch_px=vision["patch_size"],
        family=family,
        vocabulary=0 if text is None else text["vocab_size"],
        context_tokens=0 if text is None else text["max_position_embeddings"],
        end_token=0 if text is None else text["eos_token_id"],
    )


def _siglip_width(vision: dict[str, Any], text: dict[str, Any] | None) -> Any:
    """Return E: the vision tower's own width, to which the text tower projects."""
    width = vision["hidden_size"]
    if text is not None:
        projected = text.get("projection_size", text["hidden_size"])
        if projected != width:
            raise CheckpointError(
                f"projection_size of the text tower is {projected}, but the vision tower's "
                f"hidden_size is {width}; they must be equal."
            )
    if not vision.get("vision_use_head", True):
        raise CheckpointError("vision_use_head is false; only towers with a pooling head are read.")
    return width


def _merge(raw: dict[str, Any], name: str, family: str) -> dict[str, Any]:
    """Return a tower's settings over the defaults; the older spelling NAME_dict comes last."""
    defaults = _DEFAULTS[family][name == "text_config"]
    older = _group(raw, f"{name}_dict")
    # As in transformers, the older spelling brings its own defaults and overrides everything.
    return {**defaults, **_group(raw, name), **({**defaults, **older} if older else {})}


def _tower(raw: dict[str, Any]) -> TowerConfig:
    if not isinstance(raw["hidden_act"], str) or raw["hidden_act"] not in _ACTIVATIONS:
        raise CheckpointError(
            f"hidden_act is {raw['hidden_act']!r}; use one of {', '.join(_ACTIVATIONS)}."
        )
    return TowerConfig(
        width=raw["hidden_size"],
        depth=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        mlp_width=raw["intermediate_size"],
        activation=_ACTIVATIONS[raw["hidden_act"]],
        eps=raw["layer_norm_eps"],
    )


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
    part = _group(raw, name)
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


def _from_open_clip(raw: dict[str, Any]) -> ClipConfig:
    model = _read_part(raw, "model_cfg")
    vision, text = (_read_part(model, name) for name in ("vision_cfg", "text_cfg"))
    if isinstance(vision["layers"], list):
        raise CheckpointError("vision_cfg.layers is a list: this is a ResNet, use a ViT.")
    if not isinstance(model["quick_gelu"], bool):
        raise CheckpointError(f"quick_gelu is {model['quick_gelu']!r}; it must be true or false.")
    activation = "quick_gelu" if model["quick_gelu"] else "gelu"

    def tower(part: dict[str, Any], heads: Any) -> TowerConfig:
        # Truncated as OpenCLIP does: bigG's 1664 * 4.9231 is 8192.04.
        wide = int(_positive(part, "width") * _positive(part, "mlp_ratio", float))
        return TowerConfig(part["width"], part["layers"], heads, wide, activation, 1e-5)

    return ClipConfig(
        vision=tower(vision, _positive(vision, "width") // _positive(vision, "head_width")),
        text=tower(text, text["heads"]),
        embed_dim=model["embed_dim"],
        image_px=vision["image_size"],
        patch_px=vision["patch_size"],
        vocabulary=text["vocab_size"],
        context_tokens=text["context_length"],
        end_token=_positive(text, "vocab_size") - 1,
    )


def _positive(part: dict[str, Any], name: str, kind: type = int) -> Any:
    value = part[name]
    if type(value) not in (int, kind) or not 0 < value < 1e9:
        raise CheckpointError(f"{name} is {value!r}; it must be a positive {kind.__name__}.")
    return value


def _check_numbers(config: ClipConfig) -> None:
    sizes = {"embed_dim": config.embed_dim, "image_size": config.image_px}
    sizes["patch_size"] = config.patch_px
    towers = [("vision", config.vision)]
    if config.text is not None:
        towers.append(("text", config.text))
        sizes |= {"vocab_size": config.vocabulary, "context length": config.context_tokens}
        if config.family == "clip":  # SigLIP is pooled at the last token, whatever it is
            sizes["eos_token_id"] = config.end_token
    for name, tower in towers:
        fields = dataclasses.asdict(tower)
        _positive({f"{name} eps": fields.pop("eps")}, f"{name} eps", float)
        sizes |= {f"{name} {k}": v for k, v in fields.items() if k != "activation"}
    for name in sizes:
        _positive(sizes, name)
    for name, tower in towers:
        if tower.width % tower.heads:
            raise CheckpointError(
                f"the {name} tower's width {tower.width} is not a multiple of its "
                f"{tower.heads} heads."
            )
    if config.image_px < config.patch_px:
        raise CheckpointError(
            f"patch_size {config.patch_px} is larger than image_size {config.image_px}."
        )
