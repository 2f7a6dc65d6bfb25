"""Safetensors files of a checkpoint to parameters; peak memory is the parameters and one piece."""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from zeroseg_jax.teacher.checkpoints.config import (
    WEIGHTS,
    CheckpointError,
    find_config_file,
    read_object,
)
from zeroseg_jax.teacher.checkpoints.layouts import TensorName, to_parameter
from zeroseg_jax.teacher.checkpoints.names import is_unused, list_tensors, rename
from zeroseg_jax.teacher.towers import ClipConfig

_DTYPES = ("F32", "F16", "BF16")
_PIECE_VALUES = 2 << 20
_ALIGNMENT = 64  # bytes; on a CPU, JAX takes an array so aligned without a copy


def weight_files(directory: Path) -> list[Path]:
    """List the safetensors files of a checkpoint, sorted.

    Raises:
      CheckpointError: there are none, or a shard of the index is missing.
    """
    names = WEIGHTS[find_config_file(directory)]
    for name in names:
        if (directory / name).is_file():
            return [directory / name]
    found = [directory / f"{name}.index.json" for name in names]
    index = next((path for path in found if path.is_file()), found[0])
    if not index.is_file():
        raise CheckpointError(
            f"{directory}: no {names[0]} or {index.name} there; convert torch files with "
            "`zeroseg convert_teacher FILE --output=DIR`."
        )
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index}: no weight_map of shards there; fetch the file again.")
    for name in shards.values():
        # A name with a directory in it could be any file.
        plain = isinstance(name, str) and Path(name).name == name
        if not plain or not (directory / name).is_file():
            raise CheckpointError(f"{index}: the shard {name!r} is missing; fetch it too.")
    return [directory / name for name in sorted(set(shards.values()))]


def read_params(directory: Path, config: ClipConfig) -> dict[str, Any]:
    """Read the weights into {"vision": ..., "text": ..., "logit_scale": ...}.

    Args:
      directory: directory of the checkpoint.
      config: settings from read_config.

    Returns:
      Nested dict of float32 jax arrays in our layout.

    Raises:
      CheckpointError: a file is damaged, or tensors are missing, unused, doubled, non-finite or
        of a wrong shape or dtype; all of them are listed.
    """
    wanted: dict[str, list[tuple[str, TensorName]]] = {}
    for ours, tensor in list_tensors(config, find_config_file(directory)).items():
        wanted.setdefault(tensor.name, []).append((ours, tensor))
    params: dict[str, Any] = {}
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in weight_files(directory):
        with _open(path) as file:
            problems += [f"{name} is twice in {path.name}" for name in _doubled_names(path)]
            for stored in file.offset_keys():
                name = rename(stored, config)
                if name in seen:
                    problems.append(f"{name} is in {seen[name].name} and in {path.name}")
                elif name in wanted:
                    problems += _read_tensor(file, stored, wanted[name], params)
                elif not is_unused(name, config):
                    problems.append(f"unused {name}")
                seen[name] = path
    required = [name for name, pairs in wanted.items() if not pairs[0][1].optional]
    problems += [f"missing {name}" for name in required if name not in seen]
    if problems:
        raise CheckpointError(
            f"{directory}: the weights do not fit the config: " + "; ".join(sorted(problems)) + "."
        )
    fold_layer_scales(params["vision"])
    return params


def fold_layer_scales(tower: dict[str, Any]) -> None:
    """Multiply the LayerScale vectors of a tower into the linear layers before them, in place."""
    for block in tower.values():
        if isinstance(block, dict) and "scale1" in block:
            for name, layer in (
                ("scale1", block["attention"]["out"]),
                ("scale2", block["mlp"]["fc2"]),
            ):
                scale = block.pop(name)
                for part in layer:  # kernel (inputs, D) and bias (D,)
                    layer[part] = (layer[part] * scale).block_until_ready()


def _open(path: Path) -> Any:
    """Open a file; the library checks entries against their dtypes, each other and the file."""
    with open(path, "rb") as file:
        start = file.read(64).lower()
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path}: is a Git LFS pointer and not the weights; run `git lfs pull` in its folder."
        )
    if start.lstrip().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path}: is a web page and not the weights; fetch the file again.")
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); fetch it again."
        ) from error


def _doubled_names(path: Path) -> list[str]:
    """List the tensors that the header names twice, of which the library keeps one."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        pairs = json.loads(file.read(size), object_pairs_hook=list)
    counts = collections.Counter(name for name, _ in pairs)
    return [name for name, count in counts.items() if count > 1]


def _read_tensor(
    file: Any, name: str, wanted: list[tuple[str, TensorName]], params: dict[str, Any]
) -> Iterator[str]:
    """Put the parameters of one tensor into params; yield what is wrong with it."""
    stored = file.get_slice(name)
    shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
    if shape != wanted[0][1].shape:
        yield f"{name} is {shape}, not {wanted[0][1].shape}"
        return
    if dtype not in _DTYPES:
        yield f"{name} is of type {dtype}, not one of {', '.join(_DTYPES)}"
        return
    for ours, tensor in wanted:
        out = _allocate(tensor.parameter_shape)
        finite = True
        for rows, piece in _read_rows(stored, tensor):
            # A float64 sum of float32 cannot overflow, and needs no array of flags.
            finite = finite and bool(np.isfinite(piece.sum(dtype=np.float64)))
            if tensor.layout == "same":
                out[rows] = piece
            else:
                out[:, rows] = to_parameter(tensor, piece)
        if not finite:
            yield f"{name} holds values that are not finite"
            return
        # Without waiting, copies on their way to a device would add up.
        out = out.reshape(out.shape[tensor.leading :] if shape else ())
        array = jax.device_put(out).block_until_ready()
        place(params, ours, array)


def _read_rows(stored: Any, tensor: TensorName) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the parameter's rows in pieces: their place and their float32 values."""
    if not tensor.shape:
        yield slice(0, 1), stored[...].astype(np.float32)
        return
    first, rows = tensor.rows
    step = max(1, _PIECE_VALUES // math.prod(tensor.shape[1:]))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        piece = stored[first + start : first + stop].astype(np.float32, copy=False)
        yield slice(start, stop), piece


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Return an empty float32 array that JAX takes without a copy on a CPU."""
    size = math.prod(shape) * 4
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(np.float32).reshape(shape)


def place(tree: dict[str, Any], name: str, value: jax.Array | np.ndarray) -> None:
    """Put a leaf at a path such as "vision/blocks_0/mlp/fc1/kernel" into nested dicts."""
    *parents, leaf = name.split("/")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[leaf] = value
