"""Config from nested plain mappings: types, choices and limits of every field, old field names."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import operator
import reprlib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from zeroseg_jax.config.fields import Config
from zeroseg_jax.config.relations import list_misfits

# Limit of fields.number -> whether a value keeps it, and its words in an error.
_LIMITS = {
    "least": (operator.ge, "at least"),
    "most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
    "multiple": (lambda value, divisor: value % divisor == 0, "a multiple of"),
}
_LONGEST_TUPLE, _LONGEST_TEXT = 16, 4096  # entries; characters, as Linux allows in a path

# Fields of manifests and exported students made before clip_zss had groups -> fields today.
OLD_NAMES = {
    "zss.split": "clip_zss.labels.split",
    "zss.labels": "clip_zss.labels.directory",
    "zss.zero_is_nothing": "clip_zss.labels.zero_is_void",
    "zss.label_stride": "clip_zss.labels.stride_px",
    "zss.prompts": "clip_zss.labels.prompts",
    "zss.encoder": "clip_zss.student.encoder",
    "zss.encoder_weights": "clip_zss.student.encoder_weights",
    "zss.head_width": "clip_zss.student.head_width",
    "zss.flip": "clip_zss.student.flip",
    "zss.synthesizer_width": "clip_zss.student.synthesizer_width",
    "zss.synthesizer_depth": "clip_zss.student.synthesizer_depth",
    "zss.synthesizer_heads": "clip_zss.student.synthesizer_heads",
    "zss.dense_px": "clip_zss.regions.teacher_px",
    "zss.readout": "clip_zss.regions.readout",
    "zss.windows": "clip_zss.regions.seed_windows",
    "zss.iterations": "clip_zss.regions.kmeans_iterations",
    "zss.merge_above": "clip_zss.regions.merge_cosine",
    "zss.least_share": "clip_zss.regions.min_share",
    "zss.regions_max": "clip_zss.regions.max_regions",
    "zss.local_view": "clip_zss.regions.local_view",
    "zss.loss_pixel": "clip_zss.loss.pixel_weight",
    "zss.loss_focal": "clip_zss.loss.focal_weight",
    "zss.loss_dice": "clip_zss.loss.dice_weight",
    "zss.loss_global": "clip_zss.loss.global_weight",
    "zss.loss_prototype": "clip_zss.loss.prototype_weight",
    "zss.loss_local": "clip_zss.loss.local_weight",
    "zss.local_form": "clip_zss.loss.local_form",
    "zss.temperature": "clip_zss.loss.temperature",
    "zss.bank_size": "clip_zss.loss.memory_size",
    "zss.alpha": "clip_zss.loss.seen_scale",
    "zss.beta": "clip_zss.loss.latent_scale",
    "zss.latent": "clip_zss.loss.latent",
    "zss.latent_weight": "clip_zss.loss.latent_importance",
    "zss.stop_gradient": "clip_zss.loss.stop_gradient",
}


class ConfigError(ValueError):
    """Impossible setting; the message is one sentence that names the field."""


def from_mapping(mapping: Mapping[str, Any], origin: str = "") -> Config:
    """Build a Config from nested plain mappings.

    Args:
      mapping: field -> value, group -> mapping. Fields left out keep their defaults. Names of
        OLD_NAMES are read as their names today.
      origin: file of the mapping, the beginning of every error message; "" for none.

    Raises:
      ConfigError: an unknown field (with the nearest known one), a value of another type, a value
        out of range, or two fields that do not fit each other.
    """
    try:
        config = _read_group("config", rename_old(mapping), Config)
        for misfit in list_misfits(config):
            raise ConfigError(misfit)
    except ConfigError as error:
        if not origin:
            raise
        raise ConfigError(f"{origin}: {error}") from error
    return config


def to_mapping(config: Config) -> dict[str, Any]:
    """Return the settings as nested dicts of plain values."""
    return dataclasses.asdict(config)


def rename_old(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested mapping with the names of OLD_NAMES replaced by those of today."""
    renamed = dict(_check_group("config", mapping))
    for old, value in _check_group("zss", renamed.pop("zss", {})).items():
        if f"zss.{old}" not in OLD_NAMES:
            raise ConfigError(f"zss.{old}: no such field; use the fields of clip_zss.")
        group, part, field = OLD_NAMES[f"zss.{old}"].split(".")
        groups = renamed[group] = dict(_check_group(group, renamed.get(group, {})))
        groups[part] = {field: value} | dict(_check_group(part, groups.get(part, {})))
    return renamed


def explain_text(path: str, text: str) -> str:
    """Return the error about a value that is no value of a field at all.

    Args:
      path: field, for example "optim.steps".
      text: value as typed.

    Returns:
      One sentence; empty if the field takes any text.
    """
    *groups, name = path.split(".")
    tree: dict[str, Any] = {name: text}
    for group in reversed(groups):
        tree = {group: tree}
    try:
        from_mapping(tree)
    except ConfigError as error:
        return str(error)
    return ""


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the end of an error about an unknown name: its closest match, or all known names.

    Args:
      name: unknown name.
      known: valid names.
      prefix: text before the suggested name, for example the group of a field.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}."


@functools.cache
def _list_fields(kind: type) -> dict[str, tuple[Any, Mapping[str, Any], Any]]:
    """Return field name -> its type, limits and default."""
    types = typing.get_type_hints(kind)
    return {
        field.name: (types[field.name], field.metadata, field.default)
        for field in dataclasses.fields(kind)
    }


def _check_group(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {_show(value)} is not a group of fields; set its fields.")
    return value


def _read_group(name: str, mapping: Any, kind: type) -> Any:
    known, prefix = _list_fields(kind), "" if kind is Config else f"{name}."
    values = {}
    for key, value in _check_group(name, mapping).items():
        if key not in known:
            raise ConfigError(f"{prefix}{key}: no such field; {suggest(str(key), known, prefix)}")
        wanted, limits, default = known[key]
        if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
            values[key] = _read_group(f"{prefix}{key}", value, wanted)
        elif typing.get_origin(wanted) is tuple:
            values[key] = _read_tuple(f"{prefix}{key}", value, typing.get_args(wanted), limits)
        else:
            values[key] = _read_scalar(f"{prefix}{key}", value, wanted, limits, default)
    return kind(**values)


def _read_tuple(name: str, value: Any, items: tuple[Any, ...], limits: Mapping[str, Any]) -> Any:
    counts = range(1, _LONGEST_TUPLE + 1) if items[-1] is ... else range(len(items), len(items) + 1)
    if not isinstance(value, list | tuple) or len(value) not in counts:
        size = f"1 to {_LONGEST_TUPLE}" if items[-1] is ... else f"{len(items)}"
        raise ConfigError(f"{name}: {_show(value)} is not a list; use a list of {size} numbers.")
    return tuple(
        _read_scalar(f"{name}[{i}]", item, items[0], limits, None) for i, item in enumerate(value)
    )


def _read_scalar(
    name: str, value: Any, wanted: Any, limits: Mapping[str, Any], default: Any
) -> Any:
    if typing.get_origin(wanted) is Literal:
        choices = typing.get_args(wanted)
        if value not in choices:
            raise ConfigError(
                f"{name}: {_show(value)} is not one of {', '.join(choices)}; use one."
            )
    elif wanted is bool:
        if type(value) is not bool:
            raise ConfigError(f"{name}: {_show(value)} is not a bool; use True or False.")
    elif wanted is str:
        _check_text(name, value, may_be_empty=default == "")
    else:
        kinds = (int, float) if wanted is float else (int,)
        right = type(value) in kinds
        if not right or not all(_LIMITS[key][0](value, most) for key, most in limits.items()):
            fault = "out of range" if right else f"not of type {wanted.__name__}"
            words = [f"{_LIMITS[key][1]} {limit:.10g}" for key, limit in limits.items()]
            rule = f"use a number that is {' and '.join(words)}"
            raise ConfigError(f"{name}: {_show(value)} is {fault}; {rule}.")
        return wanted(value)
    return value


def _check_text(name: str, value: Any, *, may_be_empty: bool) -> None:
    if type(value) is not str:
        raise ConfigError(f"{name}: {_show(value)} is not of type str; use a text in quotes.")
    if not (value.strip() or (may_be_empty and not value)):
        raise ConfigError(f"{name}: {_show(value)} is empty; give a name or path.")
    if len(value) > _LONGEST_TEXT or any(ord(character) < 32 for character in value):
        raise ConfigError(
            f"{name}: {_show(value)} is not a name or path; use at most {_LONGEST_TEXT} characters "
            "and no control characters."
        )


def _show(value: Any) -> str:
    """Return a short repr on one line; Python refuses to print integers of 4,300 digits."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "an integer of more than 30 digits"
    return " ".join(reprlib.repr(value).split())
