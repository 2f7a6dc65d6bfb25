"""Teacher settings from config.json in Hugging Face's format, or from open_clip_config.json.

Fields and defaults are those of Hugging Face's configuration classes, and of OpenCLIP's model_cfg.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from zeroseg_jax.teacher.checkpoints import vision_families
from zeroseg_jax.teacher.checkpoints.config_fields import (
    CheckpointError,
    positive,
    read_group,
    read_object,
    read_tower,
)
from zeroseg_jax.teacher.checkpoints.open_clip import read_open_clip
from zeroseg_jax.teacher.towers import FAMILIES, ClipConfig

HUGGING_FACE, OPEN_CLIP = "config.json", "open_clip_config.json"
# Names of the weight file, the usual one first; LAION's repositories have the longer one.
WEIGHTS = {
    HUGGING_FACE: ("model.safetensors",),
    OPEN_CLIP: ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
}


def find_config_file(directory: Path) -> str:
    """Return the name of the config file, HUGGING_FACE or OPEN_CLIP.

    Many published directories hold both; then it is the one whose weights are there too. timm's
    config.json, which has no model_type, does not count beside OpenCLIP's.

    Raises:
      CheckpointError: there is no config file.
    """
    found = [name for name in WEIGHTS if (directory / name).is_file()]
    if not found:
        raise CheckpointError(
            f"{directory}: no config.json or open_clip_config.json there; give a directory in "
            "Hugging Face's or OpenCLIP's format."
        )
    if len(found) > 1 and "model_type" not in read_object(directory / HUGGING_FACE):
        return OPEN_CLIP
    for name in found:
        for weights in WEIGHTS[name]:
            if any((directory / f"{weights}{end}").is_file() for end in ("", ".index.json")):
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
        config = read_open_clip(raw) if config_file == OPEN_CLIP else _from_hugging_face(raw)
        _check_numbers(config)
    except KeyError as error:
        raise CheckpointError(f"{path}: the field {error.args[0]!r} is missing.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return config


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
_DEFAULTS["metaclip_2"] = _DEFAULTS["clip"]
# model_type -> family, and whether the text tower is there.
_MODEL_TYPES = {
    "clip": ("clip", True),
    "clip_vision_model": ("clip", False),
    "metaclip_2": ("metaclip_2", True),
    "metaclip_2_vision_model": ("metaclip_2", False),
    "siglip": ("siglip", True),
    "siglip_vision_model": ("siglip", False),
}


def _from_hugging_face(raw: dict[str, Any]) -> ClipConfig:
    kind = raw.get("model_type")
    if kind in vision_families.MODEL_TYPES:
        return vision_families.read(raw)
    if not isinstance(kind, str) or kind not in _MODEL_TYPES:
        # SigLIP 2 models of fixed size have model_type "siglip".
        hint = "; use a SigLIP 2 of fixed size, not NaFlex" if kind == "siglip2" else ""
        raise CheckpointError(
            f"model_type is {kind!r}, not one of "
            f"{', '.join([*_MODEL_TYPES, *vision_families.MODEL_TYPES])}{hint}."
        )
    family, both = _MODEL_TYPES[kind]
    vision = _merge(raw, "vision_config", family) if both else {**_DEFAULTS[family][0], **raw}
    text = _merge(raw, "text_config", family) if both else None
    if family == "siglip":
        embed_dim = _siglip_width(vision, text)
    else:
        embed_dim = raw.get("projection_dim", vision.get("projection_dim", 512))
    return ClipConfig(
        vision=read_tower(vision),
        text=None if text is None else read_tower(text),
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
    older = read_group(raw, f"{name}_dict")
    # As in transformers, the older spelling brings its own defaults and overrides everything.
    return {**defaults, **read_group(raw, name), **({**defaults, **older} if older else {})}


def _check_numbers(config: ClipConfig) -> None:
    sizes = {"embed_dim": config.embed_dim, "image_size": config.image_px}
    sizes["patch_size"] = config.patch_px
    towers = [("vision", config.vision)]
    if config.text is not None:
        towers.append(("text", config.text))
        sizes |= {"vocab_size": config.vocabulary, "context length": config.context_tokens}
        if FAMILIES[config.family].causal:  # the others are not pooled at an end token
            sizes["eos_token_id"] = config.end_token
    for name, tower in towers:
        fields = dataclasses.asdict(tower)
        positive({f"{name} eps": fields.pop("eps")}, f"{name} eps", float)
        sizes |= {f"{name} {k}": v for k, v in fields.items() if k != "activation"}
    for name in sizes:
        positive(sizes, name)
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
