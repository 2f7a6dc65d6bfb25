"""Tensors of a checkpoint, read piece by piece: peak memory is little more than the parameters.

Files are read, not mapped: pages of a mapped file would count as memory of the process.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from zeroseg_jax.teacher.checkpoints.config import WEIGHTS, CheckpointError, find_layout
from zeroseg_jax.teacher.checkpoints.names import Slot, build_slots, from_disk
from zeroseg_jax.teacher.clip import ClipConfig

_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}
# Buffers that some exporters write and no tower needs.
BUFFERS = ("position_ids", "attn_mask")
_PIECE_BYTES = 8 << 20
_ALIGNMENT = 64  # where jax takes an array of numpy's as it is, on a CPU


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One tensor of a safetensors file; `begin` is the byte in the file where it starts."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int


def weight_files(directory: Path) -> list[Path]:
    """List the safetensors files of a checkpoint, sorted.

    Raises:
      CheckpointError: none is there, or a shard that the index names is not.
    """
    single = directory / WEIGHTS[find_layout(directory)]
    if single.is_file():
        return [single]
    index = directory / f"{single.name}.index.json"
    if not index.is_file():
        raise CheckpointError(
            f"{directory}: no {single.name} there, nor {index.name}; other weights become "
            "safetensors with python -m zeroseg_jax.teacher.checkpoints.torch_files."
        )
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: not an index of shards ({error!r}); fetch the file again."
        ) from error
    for name in shards:
        # A name with a folder in it could point anywhere.
        plain = isinstance(name, str) and Path(name).name == name
        if not plain or not (directory / name).is_file():
            raise CheckpointError(f"{index}: names the shard {name!r}, which is not there.")
    return [directory / name for name in sorted(shards)]


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
    by_name: dict[str, list[tuple[str, Slot]]] = {}
    for ours, slot in build_slots(config, find_layout(directory)).items():
        by_name.setdefault(slot.name, []).append((ours, slot))
    params: dict[str, Any] = {}
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in weight_files(directory):
        with open(path, "rb", buffering=0) as file:
            for entry in _read_header(path, file):
                name = entry.name
                # transformers 5 exports a vision tower without its prefix.
                if config.text is None and f"vision_model.{name}" in by_name:
                    name = f"vision_model.{name}"
                if name in seen:
                    where = f"twice in {path.name}" if seen[name] == path else "in two files"
                    problems.append(f"{name} stands {where}")
                elif name in by_name:
                    problems += _read_tensor(file, entry, by_name[name], params)
                elif name.rpartition(".")[2] not in BUFFERS:
                    problems.append(f"unused {name}")
                seen[name] = path
    problems += [f"missing {name}" for name in by_name if name not in seen]
    if problems:
        raise CheckpointError(
            f"{directory}: the weights do not fit the config: " + "; ".join(sorted(problems)) + "."
        )
    return params


def _read_header(path: Path, file: BinaryIO) -> list[_Entry]:
    """List the tensors of a file, two of the same name both."""
    try:
        # The library checks that entries fit their types, each other and the file.
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); fetch it again."
        ) from error
    (size,) = struct.unpack("<Q", file.read(8))
    pairs: list[tuple[str, Any]] = json.loads(file.read(size), object_pairs_hook=list)
    entries = []
    for name, fields in pairs:
        if name != "__metadata__":
            entry = dict(fields)
            begin = 8 + size + entry["data_offsets"][0]
            entries.append(_Entry(name, entry["dtype"], tuple(entry["shape"]), begin))
    return entries


def _read_tensor(
    file: BinaryIO, entry: _Entry, wanted: list[tuple[str, Slot]], params: dict[str, Any]
) -> Iterator[str]:
    """Put one tensor, or its thirds, into params; yield what is wrong with it."""
    shape = wanted[0][1].shape
    if entry.shape != shape:
        yield f"{entry.name} is {entry.shape}, not {shape}"
        return
    if entry.dtype not in _DTYPES:
        yield f"{entry.name} is of type {entry.dtype}, not one of {', '.join(_DTYPES)}"
        return
    for ours, slot in wanted:
        out = _allocate(slot.turned_shape)
        finite = True
        for rows, piece in _read_rows(file, entry, slot):
            # A float64 sum of float32 cannot overflow, and needs no array of flags.
            finite = finite and bool(np.isfinite(piece.sum(dtype=np.float64)))
            if slot.turn == "as is":
                out[rows] = piece
            else:
                out[:, rows] = from_disk(slot, piece)
        if not finite:
            yield f"{entry.name} holds values that are not finite"
            return
        # Waited for, so that copies on their way to a device do not add up.
        array = jax.device_put(out if slot.shape else out.reshape(())).block_until_ready()
        place(params, ours, array)


def _read_rows(file: BinaryIO, entry: _Entry, slot: Slot) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the wanted rows of a tensor in pieces: where they go, and float32 values."""
    dtype = _DTYPES[entry.dtype]
    first, rows = slot.rows
    row_bytes = math.prod(entry.shape[1:]) * dtype.itemsize
    step = max(1, _PIECE_BYTES // row_bytes)
    file.seek(entry.begin + first * row_bytes)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        piece = np.frombuffer(_read_exactly(file, count * row_bytes), dtype)
        piece = piece.reshape(count, *entry.shape[1:]).astype(np.float32, copy=False)
        yield slice(start, start + count), piece


def _read_exactly(file: BinaryIO, size: int) -> bytearray:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        got = file.readinto(view[done:])
        if not got:
            raise CheckpointError(f"{file.name}: became shorter while it was read.")
        done += got
    return buffer


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
    """Return an empty float32 array that a CPU's jax need not copy."""
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
