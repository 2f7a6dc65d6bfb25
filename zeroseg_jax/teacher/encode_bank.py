"""Shards of a bank at the speed of the teacher: read ahead, encode in groups, write behind."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config, grid_windows
from zeroseg_jax.data import bank, sources, transforms
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher.views import EncodeViews, build_encoder

# Patches in one forward of the teacher, across images: 480 views of ViT-L/14 on an accelerator. A
# CPU is no faster with more, and says something sooner with fewer.
_PATCHES_PER_ACCELERATOR, _PATCHES_PER_CPU = 122_880, 8_192
_THREADS = 4
_GROUPS_AHEAD = 2
_LOG_SECONDS = 5.0


def list_windows(config: Config) -> list[tuple[float, ...]]:
    """List the views of an image, see config.grid_windows."""
    return grid_windows(config.teacher.grids, config.teacher.overlap)


class _Progress:
    """Lines with images/s and the time left: the first as soon as it is known, then now and then.

    The clock starts behind the first group, which waits for the compiler.
    """

    def __init__(self, images: int, log: Callable[[str], None]):
        self.images, self.log, self.done = images, log, 0
        self.begin, self.first = time.perf_counter(), 0
        self.last = 0.0

    def add(self, count: int) -> None:
        self.done += count
        now = time.perf_counter()
        if not self.first and self.done < self.images:
            self.begin, self.first = now, count
            return
        if now - self.last > _LOG_SECONDS or self.done == self.images:
            self.last = now
            rate = (self.done - self.first) / max(now - self.begin, 1e-9)
            left = _tell_time((self.images - self.done) / max(rate, 1e-9))
            self.log(f"prepare: {self.done}/{self.images} images, {rate:.1f} images/s, {left} left")


def _tell_time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def shard_length(shard: int, total: int) -> int:
    """Return how many of the source's `total` images belong to a shard."""
    return min(bank.SHARD_IMAGES, total - shard * bank.SHARD_IMAGES)


@dataclasses.dataclass
class _Group:
    """Images of one shard that are encoded in one forward."""

    shard: int
    indices: range
    is_last: bool  # of its shard
    items: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skipped: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    features: jax.Array | None = None


def _split(todo: list[int], total: int, at_once: int) -> list[_Group]:
    groups = []
    for shard in todo:
        first, length = shard * bank.SHARD_IMAGES, shard_length(shard, total)
        for start in range(0, length, at_once):
            stop = min(start + at_once, length)
            indices = range(first + start, first + stop)
            groups.append(_Group(shard, indices, stop == length))
    return groups


def count_at_once(clip: Teacher, views: int) -> int:
    """Return how many images one forward takes: as many on each device, and even shards."""
    devices = jax.local_device_count()
    on_cpu = jax.default_backend() == "cpu"
    patches = _PATCHES_PER_CPU if on_cpu else _PATCHES_PER_ACCELERATOR
    image_patches = views * (clip.image_px // clip.patch_px) ** 2
    most = devices * max(1, patches // image_patches)
    # Groups of one size, so that the last of a shard is not mostly padding.
    even = -(-bank.SHARD_IMAGES // -(-bank.SHARD_IMAGES // most))
    return -(-even // devices) * devices


def encode_shards(
    config: Config,
    clip: Teacher,
    directory: Path,
    source: sources.Source,
    todo: list[int],
    log: Callable[[str], None],
) -> None:
    """Encode and write shards. Reading runs ahead of the teacher, packing and writing behind it.

    Args:
      config: names the grids and the sizes.
      clip: the teacher.
      directory: of the bank.
      source: of the images.
      todo: numbers of the shards.
      log: takes lines with images/s and the time left.

    Raises:
      ValueError: a feature that does not fit the bank's type.
    """
    progress = _Progress(sum(shard_length(i, len(source)) for i in todo), log)
    windows = list_windows(config)

    def read(index: int) -> dict[str, Any]:
        try:
            item = source[index]
        except transforms.ImageError as error:
            return {"skipped": {"index": index, "reason": str(error)}}
        return {
            "index": index,
            "name": item["name"],
            "image": transforms.square_crop(item["image"], config.model.image_px),
            "views": transforms.cut_views(item["image"], windows, clip.image_px),
        }

    encode = build_encoder(clip, jax.local_devices())
    at_once = count_at_once(clip, len(windows))
    shard = _Shard(directory, config.teacher.dtype)
    threads = max(_THREADS, os.cpu_count() or 1)
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as readers,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        sent: list[_Group] = []
        for group in _read_ahead(_split(todo, len(source), at_once), read, readers):
            _send(group, encode, at_once)
            sent.append(group)
            # The teacher works on this group while the one before is packed.
            if len(sent) > 1:
                shard.add(sent.pop(0), writer, progress)
        if sent:
            shard.add(sent.pop(0), writer, progress)
        shard.wait()


def _read_ahead(
    groups: list[_Group], read: Callable[[int], dict[str, Any]], pool: concurrent.futures.Executor
) -> Iterator[_Group]:
    """Yield groups with their items, over the borders of shards."""
    ahead: collections.deque[tuple[_Group, list[concurrent.futures.Future]]] = collections.deque()
    left = iter(groups)

    def submit() -> None:
        for group in itertools.islice(left, 1):
            ahead.append((group, [pool.submit(read, i) for i in group.indices]))

    for _ in range(_GROUPS_AHEAD):
        submit()
    while ahead:
        group, futures = ahead.popleft()
        items = [future.result() for future in futures]
        submit()
        group.skipped = [item["skipped"] for item in items if "skipped" in item]
        group.items = [item for item in items if "skipped" not in item]
        yield group


def _send(group: _Group, encode: EncodeViews, at_once: int) -> None:
    if not group.items:
        return
    views = sources.stack(group.items, "views")
    # Padded to one shape, so that the teacher compiles once.
    missing = at_once - len(views)
    if missing:
        views = np.concatenate([views, np.repeat(views[-1:], missing, axis=0)])
    for item in group.items:
        del item["views"]
    group.features = encode(views)


class _Shard:
    """Records of the open shard; a whole one is written while the next is encoded."""

    def __init__(self, directory: Path, dtype: str):
        self._directory, self._dtype = directory, dtype
        self._records: list[bytes] = []
        self._skipped: list[dict[str, Any]] = []
        self._writing: concurrent.futures.Future | None = None

    def add(self, group: _Group, writer: concurrent.futures.Executor, progress: _Progress) -> None:
        self._records += _pack(group, self._dtype)
        self._skipped += group.skipped
        progress.add(len(group.indices))
        if group.is_last:
            self.wait()
            self._writing = writer.submit(
                bank.write_shard, self._directory, group.shard, self._records, self._skipped
            )
            self._records, self._skipped = [], []

    def wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def _pack(group: _Group, dtype: str) -> list[bytes]:
    if group.features is None:
        return []
    records = []
    features = np.asarray(group.features)[: len(group.items)]
    for item, rows in zip(group.items, features, strict=True):
        small = rows.astype(dtype)
        if not np.isfinite(small).all():
            raise ValueError(
                f"{item['name']}: a teacher feature of {np.abs(rows).max():.3g} does not fit "
                f"{dtype}; set teacher.dtype=float32."
            )
        records.append(bank.encode_record(item["index"], item["name"], item["image"], small))
    return records
