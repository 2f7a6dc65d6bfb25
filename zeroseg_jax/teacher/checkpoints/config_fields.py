"""Fields of a checkpoint's config: JSON objects, groups, numbers, activations of a tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zeroseg_jax.data import files
from zeroseg_jax.teacher.towers import TowerConfig

_ACTIVATIONS = {
    "gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
}  # fmt: skip


class CheckpointError(ValueError):
    """A teacher directory that cannot be read; the message is one sentence."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
      CheckpointError: the file is not JSON, or not an object.
    """
    try:
        return files.read_json(path, remedy="fetch the file again")
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def read_group(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object within an object; empty where it is missing or null."""
    part = raw.get(name)
    if part is not None and not isinstance(part, dict):
        raise CheckpointError(f"{name} is {part!r}; it must be an object.")
    return part or {}


def positive(part: dict[str, Any], name: str, kind: type = int) -> Any:
    """Return a field that must be a positive number; an int is also a float."""
    value = part[name]
    if type(value) not in (int, kind) or not 0 < value < 1e9:
        raise CheckpointError(f"{name} is {value!r}; it must be a positive {kind.__name__}.")
    return value


def read_tower(raw: dict[str, Any]) -> TowerConfig:
    """Return a tower's settings from Hugging Face's fields, all of them given."""
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
