"""Tensors of a checkpoint, read one by one: peak memory is little more than the parameters."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from zeroseg_jax.teacher.clip import ClipConfig
from zeroseg_jax.teacher.layout import (
    HUGGING_FACE,
    CheckpointError,
    Slot,
    build_slots,
    find_layout,
    from_disk,
)

_OPEN_CLIP = "open_clip_model.safetensors"
_DTYPES = ("F32", "F16", "BF16")
# Buffers that some exporters write and no tower needs.
_BUFFERS = ("position_ids", "attn_mask")


def weight_files(directory: Path) -> list[Path]:
    """List the safetensors files of a checkpoint, sorted.

    Raises:
      CheckpointError: none is there, or a shard that the index names is not.
    """
    layout = find_layout(directory)
    single = directory / (_OPEN_CLIP if layout != HUGGING_FACE else "model.safetensors")
    if single.is_file():
        return [single]
    index = directory / f"{single.name}.index.json"
    if not index.is_file():
        raise CheckpointError(
            f"{directory}: no {single.name} there, nor {index.name}; other weights become "
            "safetensors with python -m zeroseg_jax.teacher.convert."
        )
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: not an index of shards ({error!r}); fetch the file again."
        ) from error
    for name in shards:
        # A name with a folder in it could point anywhere.
        if Path(name).name != name or not (directory / name).is_file():
            raise CheckpointError(f"{index}: names the shard {name!r}, which is not there.")
    return [directory / name for name in shards]


def read_params(directory: Path, config: ClipConfig) -> dict[str, Any]:
    """Read the weights into {"vision": ..., "text": ..., "logit_scale": ...}.

    Args:
      directory: of the checkpoint.
      config: from layout.read_config.

    Returns:
      Nested dict of float32 jax arrays in our layout.

    Raises:
      CheckpointError: every missing, unused, doubled, wrongly shaped or typed, or non-finite
        tensor at once; or a file that is not whole.
    """
    slots = build_slots(config, find_layout(directory))
    by_name: dict[str, list[tuple[str, Slot]]] = {}
    for ours, slot in slots.items():
        by_name.setdefault(slot.name, []).append((ours, slot))
    params: dict[str, Any] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for path in weight_files(directory):
        try:
            with safe_open(path, framework="numpy") as file:
                problems += _doubled_names(path)
                for key in file.keys():  # noqa: SIM118, it is no mapping
                    name = key
                    # transformers 5 exports a vision tower without its prefix.
                    if config.text is None and f"vision_model.{key}" in by_name:
                        name = f"vision_model.{key}"
                    if name in seen:
                        problems.append(f"{name} stands in two files")
                    elif name in by_name:
                        problems += _read_tensor(file, key, by_name[name], params)
                    elif name.rpartition(".")[2] not in _BUFFERS:
                        problems.append(f"unused {name}")
                    seen.add(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"{path}: not a whole safetensors file ({error}); fetch it again."
            ) from error
    problems += [f"missing {name}" for name in by_name if name not in seen]
    if problems:
        raise CheckpointError(
            f"{directory}: the weights do not fit the config: " + "; ".join(sorted(problems)) + "."
        )
    return params


def _doubled_names(path: Path) -> list[str]:
    """The library takes the last of two entries with one name; here both are refused."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = file.read(size)
    doubled: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        doubled.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(pairs)

    json.loads(header, object_pairs_hook=note)
    return [f"{name} stands twice in {path.name}" for name in doubled]


def _read_tensor(
    file: Any, name: str, wanted: list[tuple[str, Slot]], params: dict[str, Any]
) -> Iterator[str]:
    """Put one tensor, or its thirds, into params; yield what is wrong with it."""
    shape = wanted[0][1].shape
    part = file.get_slice(name)
    found, dtype = tuple(part.get_shape()), part.get_dtype()
    if found != shape:
        yield f"{name} is {found}, not {shape}"
        return
    if dtype not in _DTYPES:
        yield f"{name} is of type {dtype}, not one of {', '.join(_DTYPES)}"
        return
    for ours, slot in wanted:
        value = file.get_tensor(name) if not shape else part[slot.rows]
        value = np.asarray(value, np.float32)
        # A float64 sum of float32 cannot overflow, and needs no array of flags.
        if not np.isfinite(value.sum(dtype=np.float64)):
            yield f"{name} holds values that are not finite"
            return
        # Waited for, so that copies on their way do not add up.
        place(params, ours, jnp.asarray(from_disk(slot, value)).block_until_ready())


def place(tree: dict[str, Any], name: str, value: jax.Array | np.ndarray) -> None:
    """Put a leaf at a path such as "vision/blocks_0/mlp/fc1/kernel" into nested dicts."""
    *parents, leaf = name.split("/")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[leaf] = value
