"""Where a teacher's settings and tensors stand on disk, and what they are called here.

Three layouts: Hugging Face's CLIP and SigLIP (config.json), and OpenCLIP's own
(open_clip_config.json). One table a layout names every tensor, its shape and how it is turned.
Source: the published directories of openai/clip-vit-base-patch16, google/siglip-base-patch16-224
and laion/CLIP-ViT-B-32-laion2B-s34B-b79K.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.teacher.clip import ClipConfig, TowerConfig

HUGGING_FACE, OPEN_CLIP = "config.json", "open_clip_config.json"


class CheckpointError(ValueError):
    """A teacher directory that cannot be read; the message is one sentence."""


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
    def rows(self) -> slice:
        """Return the rows on disk that are meant."""
        if self.third is None:
            return slice(None)
        size = self.shape[0] // 3
        return slice(self.third * size, (self.third + 1) * size)


def find_layout(directory: Path) -> str:
    """Return the name of the config file there, which tells the layout.

    Raises:
      CheckpointError: there is none.
    """
    for name in (HUGGING_FACE, OPEN_CLIP):
        if (directory / name).is_file():
            return name
    raise CheckpointError(
        f"{directory}: no config.json or open_clip_config.json there; give a directory in Hugging "
        "Face's layout or OpenCLIP's."
    )


def read_config(directory: Path) -> ClipConfig:
    """Read the sizes of both towers, or of one where only the vision tower was exported.

    Raises:
      CheckpointError: no config, not JSON, another model type, a field that is missing, of
        another type or not supported.
    """
    layout = find_layout(directory)
    path = directory / layout
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); fetch the file again.") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path}: holds {type(raw).__name__}, not settings.")
    try:
        config = _from_open_clip(raw) if layout == OPEN_CLIP else _from_hugging_face(raw)
    except KeyError as error:
        raise CheckpointError(f"{path}: the field {error.args[0]!r} is missing.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_numbers(path, config)
    return config


# What Hugging Face's config classes assume for fields that a config.json leaves out.
_TOWER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_VISION = {**_TOWER, "image_size": 224, "patch_size": 32}
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "clip": {
        "vision": {**_VISION, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        "text": {
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
    },
    "siglip": {
        "vision": {
            **_VISION,
            "patch_size": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        },
        "text": {
            **_TOWER,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "eos_token_id": 49407,
        },
    },
}
_MODEL_TYPES = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def _from_hugging_face(raw: dict[str, Any]) -> ClipConfig:
    kind = raw.get("model_type")
    if kind not in _MODEL_TYPES:
        hint = ""
        if kind == "siglip2":
            hint = " Of SigLIP 2 take a model of fixed size; NaFlex is not read."
        raise CheckpointError(
            f"model_type is {kind!r}, but only {', '.join(_MODEL_TYPES)} are read.{hint}"
        )
    family = kind.split("_")[0]
    both = kind == family
    vision = {**_DEFAULTS[family]["vision"], **(raw.get("vision_config", {}) if both else raw)}
    text = {**_DEFAULTS[family]["text"], **raw.get("text_config", {})} if both else None
    if family == "siglip":
        # Pooling gives the vision tower's own width; the text tower projects to it.
        embed_dim = vision["hidden_size"]
        if text is not None and text.get("projection_size", text["hidden_size"]) != embed_dim:
            raise CheckpointError(
                f"the text tower projects to {text.get('projection_size', text['hidden_size'])}, "
                f"but images are {embed_dim} wide."
            )
        if not vision.get("vision_use_head", True):
            raise CheckpointError("vision_use_head is false: without its head no image is pooled.")
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


def _tower(raw: dict[str, Any]) -> TowerConfig:
    if raw["hidden_act"] not in _ACTIVATIONS:
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


# What would change the towers and is not built; each with the value that stands for "off".
_OPEN_CLIP_VISION = {
    "timm_model_name": None, "attentional_pool": False, "ls_init_value": None,
    "no_ln_pre": False, "final_ln_after_pool": False, "pool_type": "tok", "pos_embed_type":
    "learnable", "input_patchnorm": False, "output_tokens": False, "qk_norm": False,
}  # fmt: skip
_OPEN_CLIP_TEXT = {
    "hf_model_name": None, "embed_cls": False, "no_causal_mask": False, "pool_type": "argmax",
    "proj_bias": False, "ls_init_value": None, "proj_type": "linear", "qk_norm": False,
}  # fmt: skip


def _from_open_clip(raw: dict[str, Any]) -> ClipConfig:
    model = raw["model_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    for part, off in ((vision, _OPEN_CLIP_VISION), (text, _OPEN_CLIP_TEXT)):
        for field, value in off.items():
            if part.get(field, value) not in (value, None):
                raise CheckpointError(f"{field} is {part[field]!r}, and only {value!r} is read.")
    if isinstance(vision["layers"], list):
        raise CheckpointError("vision_cfg.layers is a list: a ResNet, and only ViTs are read.")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"

    def tower(part: dict[str, Any], heads: int) -> TowerConfig:
        wide = int(part["width"] * part.get("mlp_ratio", 4.0))
        return TowerConfig(part["width"], part["layers"], heads, wide, activation, 1e-5)

    return ClipConfig(
        vision=tower(vision, vision["width"] // vision.get("head_width", 64)),
        text=tower(text, text["heads"]),
        embed_dim=model["embed_dim"],
        image_px=vision["image_size"],
        patch_px=vision["patch_size"],
        vocabulary=text["vocab_size"],
        context_tokens=text["context_length"],
        end_token=text["vocab_size"] - 1,
    )


def _check_numbers(path: Path, config: ClipConfig) -> None:
    sizes = {"embed_dim": config.embed_dim, "image_size": config.image_px}
    sizes["patch_size"] = config.patch_px
    towers = [("vision", config.vision), ("text", config.text)]
    for name, tower in towers:
        if tower is not None:
            fields = dataclasses.asdict(tower)
            sizes |= {f"{name} {k}": v for k, v in fields.items() if k not in ("activation", "eps")}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{path}: {name} is {value!r}; it must be a positive integer.")
    for name, tower in towers:
        if tower is not None and tower.width % tower.heads:
            raise CheckpointError(
                f"{path}: the {name} tower's width {tower.width} is not a multiple of its "
                f"{tower.heads} heads."
            )
    if config.image_px < config.patch_px:
        raise CheckpointError(
            f"{path}: a patch of {config.patch_px} px does not fit an image of {config.image_px}."
        )


def write_config(config: ClipConfig) -> dict[str, Any]:
    """Return the config.json of a CLIP model as a plain dict."""

    def tower(part: TowerConfig) -> dict[str, Any]:
        return {
            "hidden_size": part.width,
            "intermediate_size": part.mlp_width,
            "num_hidden_layers": part.depth,
            "num_attention_heads": part.heads,
            "hidden_act": part.activation,
            "layer_norm_eps": part.eps,
            "projection_dim": config.embed_dim,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 2.6592,
        "vision_config": {
            **tower(config.vision),
            "model_type": "clip_vision_model",
            "image_size": config.image_px,
            "patch_size": config.patch_px,
        },
        "text_config": {
            **tower(config.text),
            "model_type": "clip_text_model",
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.context_tokens,
            "bos_token_id": config.end_token - 1,
            "eos_token_id": config.end_token,
            "pad_token_id": config.end_token,
        },
    }


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
