"""Second stage of prepare: records computed from those of a finished bank, stored beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data import bank, locks, mirrors
from zeroseg_jax.data.progress import ProgressLog
from zeroseg_jax.teacher.load import Teacher

BATCH = 16  # images in one forward pass of the teacher


def write_records(
    directory: Path,
    folder: str,
    settings: dict[str, Any],
    encode: Callable[[range], list[bytes]],
    log: Callable[[str], None],
    *,
    name: str,
    host_index: int,
    host_count: int,
) -> bool:
    """Write the shards of a stage that are missing or damaged, one for each shard of the bank.

    Args:
      directory: directory of the finished bank.
      folder: name of the stage's folder in it.
      settings: settings that identify the records, as JSON.
      encode: function from at most BATCH consecutive record numbers to their records.
      log: receiver of progress lines.
      name: name of the records in those lines.
      host_index, host_count: index and number of hosts, see encode_bank.prepare_bank.

    Returns:
      True when all shards are there and the manifest is written; False while other hosts are
      not done.

    Raises:
      BankError: the folder holds records of other settings.
    """
    place = directory / folder
    bounds = _shard_bounds(directory)
    with locks.lock_directory(place, f"prepares {name}", name=f".lock-{host_index}"):
        mirrors.pull(place)
        bank.begin_bank(place, settings)
        _write_shards(place, bounds, encode, range(host_index, len(bounds), host_count), name, log)
        mirrors.pull(place)  # shards of other hosts
        if not all(bank.has_shard(place, i) for i in range(len(bounds))):
            log(f"{name}: shards are left to other hosts")
            return False
        bank.finish_bank(place, len(bounds), settings)
        return True


def _write_shards(
    folder: Path,
    bounds: list[tuple[int, int]],
    encode: Callable[[range], list[bytes]],
    shards: range,
    name: str,
    log: Callable[[str], None],
) -> None:
    there = [i for i in shards if bank.has_shard(folder, i)]
    for shard in bank.verify_shards(folder, there):
        log(f"{name}: shard {shard} is made again, because it is damaged")
        bank.remove_shard(folder, shard)
    mine = [i for i in shards if not bank.has_shard(folder, i)]
    progress = ProgressLog(name, sum(bounds[i][1] - bounds[i][0] for i in mine), "images", log)
    for shard in mine:
        records: list[bytes] = []
        for start in range(*bounds[shard], BATCH):
            rows = range(start, min(start + BATCH, bounds[shard][1]))
            records += encode(rows)
            progress.add(len(rows))
        bank.write_shard(folder, shard, records, [])


def _shard_bounds(directory: Path) -> list[tuple[int, int]]:
    """Return (first, last + 1) of the records of each shard of the bank."""
    bounds, first = [], 0
    for i in range(bank.read_manifest(directory)["shards"]):
        count = bank.read_summary(directory, i)["records"]
        bounds.append((first, first + count))
        first += count
    return bounds


def embed_patches(
    clip: Teacher, squares: np.ndarray, readout: str, affinity: Teacher | None
) -> np.ndarray:
    """Embed the patches of at most BATCH squares with a dense read-out.

    Args:
      clip: teacher.
      squares: uint8 (B, side, side, 3).
      readout: name in readouts.READOUTS.
      affinity: second tower, for proxy alone.

    Returns:
      float32 (B, h, w, E).
    """
    missing = BATCH - len(squares)  # padding avoids a second compilation
    padded = np.concatenate([squares, np.repeat(squares[-1:], missing, axis=0)])
    mean, std = np.array(clip.mean, np.float32), np.array(clip.std, np.float32)
    pixels = (padded.astype(np.float32) / 255 - mean) / std
    return np.asarray(clip.dense(pixels, readout, affinity), np.float32)[: len(squares)]
