"""Encode all views once: python -m zeroseg_jax.prepare --config=... --workdir=DIR."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax import flags, teacher
from zeroseg_jax.config import Config, grid_windows
from zeroseg_jax.data import bank, sources, transforms
from zeroseg_jax.pseudo_labels import prepare_regions
from zeroseg_jax.teacher.views import EncodeViews, build_encoder

_VIEWS_PER_DEVICE = 480  # in one forward of the teacher, across images
_THREADS = 4
_LOG_SECONDS = 5.0


def bank_directory(config: Config, workdir: str | Path) -> Path:
    """Return where the bank of a run lies: data.bank, or WORKDIR/bank."""
    return Path(config.data.bank) if config.data.bank else Path(workdir) / "bank"


def bank_settings(config: Config, clip: teacher.Teacher) -> dict[str, Any]:
    """Return what a bank depends on and training must agree with."""
    return {
        "teacher": clip.digest,
        "embed_dim": clip.embed_dim,
        "grids": list(config.teacher.grids),
        "overlap": config.teacher.overlap,
        "image_px": config.model.image_px,
        "view_px": clip.image_px,
        "resize": "bicubic, antialiased, from the centre square",
        "dtype": config.teacher.dtype,
        "compute": clip.dtype.name,
        "source": sources.describe_source(config),
    }


def prepare_bank(
    config: Config,
    directory: Path,
    clip: teacher.Teacher,
    log: Callable[[str], None] = print,
    *,
    host_index: int = 0,
    host_count: int = 1,
) -> dict[str, Any] | None:
    """Write the bank, or go on with one that was interrupted.

    Args:
      config: names the source, the grids and the sizes.
      directory: of the bank.
      clip: the teacher.
      log: takes progress lines.
      host_index, host_count: of several machines that share the directory, each encodes every
        host_count-th shard; whoever finishes last writes the manifest.

    Returns:
      The manifest, or None where other hosts are not done.

    Raises:
      ValueError: the disk cannot hold it, the directory holds another bank, or a host that
        there cannot be.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"--host_index: {host_index} is not below --host_count {host_count}.")
    settings = bank_settings(config, clip)
    bank.begin_bank(directory, settings)
    source = sources.build_source(config)
    shards = -(-len(source) // bank.SHARD_IMAGES)
    mine = range(host_index, shards, host_count)
    todo = [i for i in mine if not bank.has_shard(directory, i)]
    views = len(grid_windows(config.teacher.grids, config.teacher.overlap))
    record = bank.count_record_bytes(
        config.model.image_px, views, clip.embed_dim, config.teacher.dtype
    )
    images = sum(_shard_length(i, len(source)) for i in todo)
    free = shutil.disk_usage(directory).free
    log(
        f"prepare: {images} of {len(source)} images to encode, {views} views each, "
        f"{images * record / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
    )
    if images * record * 1.05 > free:
        raise ValueError(
            f"{directory}: the bank needs {images * record / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; make room or set data.bank to another disk."
        )
    progress = _Progress(images, log)
    encode = build_encoder(clip, jax.local_devices())
    with concurrent.futures.ThreadPoolExecutor(max(_THREADS, os.cpu_count() or 1)) as pool:
        for shard in todo:
            records, skipped = _encode_shard(
                config, clip.image_px, encode, source, shard, pool, progress
            )
            bank.write_shard(directory, shard, records, skipped)
    left = [i for i in range(shards) if not bank.has_shard(directory, i)]
    if left:
        log(f"prepare: {len(left)} of {shards} shards are other hosts'; the last one closes it")
        return None
    manifest = bank.finish_bank(directory, shards, settings)
    log(f"prepare: {manifest['records']} records, {len(manifest['skipped'])} skipped")
    for entry in manifest["skipped"][:20]:
        log(f"  skipped {entry['reason']}")
    return manifest


class _Progress:
    """Lines with images/s and ETA, one every few seconds."""

    def __init__(self, images: int, log: Callable[[str], None]):
        self.images, self.log, self.done = images, log, 0
        self.begin = self.last = time.time()

    def add(self, count: int) -> None:
        self.done += count
        now = time.time()
        if now - self.last > _LOG_SECONDS or self.done == self.images:
            self.last = now
            rate = self.done / max(now - self.begin, 1e-9)
            left = (self.images - self.done) / rate
            self.log(
                f"prepare: {self.done}/{self.images} images, {rate:.1f} images/s, ETA {left:.0f} s"
            )


def _shard_length(shard: int, total: int) -> int:
    return min(bank.SHARD_IMAGES, total - shard * bank.SHARD_IMAGES)


def _encode_shard(config, view_px, encode, source, shard, pool, progress):
    """Encode one shard; decoding runs ahead of the teacher in `pool`."""

    windows = grid_windows(config.teacher.grids, config.teacher.overlap)

    def read(index: int) -> dict[str, Any]:
        try:
            item = source[index]
        except transforms.ImageError as error:
            return {"skipped": {"name": str(index), "reason": str(error)}}
        return {
            "index": index,
            "name": item["name"],
            "image": transforms.square_crop(item["image"], config.model.image_px),
            "views": transforms.cut_views(item["image"], windows, view_px),
        }

    first = shard * bank.SHARD_IMAGES
    devices = jax.local_device_count()
    # A multiple of the devices, so that each gets as many.
    at_once = devices * max(1, _VIEWS_PER_DEVICE // len(windows))
    indices = range(first, first + _shard_length(shard, len(source)))
    groups = [indices[i : i + at_once] for i in range(0, len(indices), at_once)]
    ahead = [[pool.submit(read, i) for i in group] for group in groups[:2]]
    records, skipped, sent = [], [], None
    for number, group in enumerate(groups):
        items = [future.result() for future in ahead.pop(0)]
        if number + 2 < len(groups):
            ahead.append([pool.submit(read, i) for i in groups[number + 2]])
        skipped += [item["skipped"] for item in items if "skipped" in item]
        good = [item for item in items if "skipped" not in item]
        # The teacher works on this group while the records of the one before are packed.
        before, sent = sent, _send(good, encode, at_once) if good else None
        records += _pack(before, config.teacher.dtype)
        progress.add(len(group))
    return records + _pack(sent, config.teacher.dtype), skipped


def _send(
    items: list[dict[str, Any]], encode: EncodeViews, at_once: int
) -> tuple[list[dict[str, Any]], jax.Array]:
    views = sources.stack(items, "views")
    # Padded to one shape, so that the teacher compiles once.
    missing = at_once - len(items)
    padded = np.concatenate([views, np.repeat(views[-1:], missing, axis=0)]) if missing else views
    return items, encode(padded)


def _pack(sent: tuple[list[dict[str, Any]], jax.Array] | None, dtype: str) -> list[bytes]:
    if sent is None:
        return []
    items, features = sent
    records = []
    for item, rows in zip(items, np.asarray(features)[: len(items)], strict=True):
        small = rows.astype(dtype)
        if not np.isfinite(small).all():
            raise ValueError(
                f"{item['name']}: a teacher feature of {np.abs(rows).max():.3g} does not fit "
                f"{dtype}; set teacher.dtype=float32."
            )
        records.append(bank.encode_record(item["index"], item["name"], item["image"], small))
    return records


def define_flags() -> None:
    """Define the command line."""
    flags.define_config()
    absl_flags.DEFINE_integer("host_index", 0, "which of --host_count machines this is")
    absl_flags.DEFINE_integer("host_count", 1, "machines that share the bank's directory")


def main(arguments: list[str]) -> None:
    """Prepare the bank of --config under --workdir."""
    del arguments
    config, _ = flags.read_config()
    directory = bank_directory(config, FLAGS.workdir)
    clip = teacher.load(config.teacher.directory)
    hosts = {"host_index": FLAGS.host_index, "host_count": FLAGS.host_count}
    manifest = prepare_bank(config, directory, clip, **hosts)
    if config.objective == "clip_zss" and manifest is not None:
        prepare_regions(config, directory, clip, **hosts)


if __name__ == "__main__":
    flags.run(main, define_flags)
