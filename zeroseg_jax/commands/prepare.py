"""Encode all views once: python -m zeroseg_jax prepare --config=... --workdir=DIR."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax import teacher
from zeroseg_jax.commands import flags
from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, sources
from zeroseg_jax.teacher.encode_bank import encode_shards, list_windows, shard_length
from zeroseg_jax.teacher.region_labels import prepare_regions


def bank_directory(config: Config, workdir: str | Path) -> Path:
    """Return where the bank of a run lies: data.bank, or WORKDIR/bank."""
    return Path(config.data.bank) if config.data.bank else Path(workdir) / "bank"


def bank_settings(config: Config, clip: teacher.Teacher, source: sources.Source) -> dict[str, Any]:
    """Return what a bank depends on; one that was begun with anything else is not gone on with."""
    return {
        "teacher": clip.digest,
        "embed_dim": clip.embed_dim,
        "grids": list(config.teacher.grids),
        "overlap": config.teacher.overlap,
        "views": len(list_windows(config)),
        "image_px": config.model.image_px,
        "view_px": clip.image_px,
        "resize": "bicubic, antialiased, from the centre square",
        "mean": list(clip.mean),
        "std": list(clip.std),
        "dtype": config.teacher.dtype,
        "compute": clip.dtype.name,
        "source": sources.describe_source(config),
        "images": len(source),
        "names": sources.digest_names(source),
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
    source = sources.build_source(config)
    settings = bank_settings(config, clip, source)
    bank.begin_bank(directory, settings)
    shards = -(-len(source) // bank.SHARD_IMAGES)
    mine = range(host_index, shards, host_count)
    todo = [i for i in mine if not bank.has_shard(directory, i)]
    images = sum(shard_length(i, len(source)) for i in todo)
    _check_room(config, clip, directory, images, len(source), log)
    encode_shards(config, clip, directory, source, todo, log)
    left = [i for i in range(shards) if not bank.has_shard(directory, i)]
    if left:
        log(f"prepare: {len(left)} of {shards} shards are other hosts'; the last one closes it")
        return None
    manifest = bank.finish_bank(directory, shards, settings)
    log(f"prepare: {manifest['records']} records, {len(manifest['skipped'])} skipped")
    for entry in manifest["skipped"][:20]:
        log(f"  skipped {entry['reason']}")
    return manifest


def _check_room(
    config: Config,
    clip: teacher.Teacher,
    directory: Path,
    images: int,
    total: int,
    log: Callable[[str], None],
) -> None:
    views = len(list_windows(config))
    record = bank.count_record_bytes(
        config.model.image_px, views, clip.embed_dim, config.teacher.dtype
    )
    free = shutil.disk_usage(directory).free
    log(
        f"prepare: {images} of {total} images to encode, {views} views each, "
        f"{images * record / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
    )
    if images * record * 1.05 > free:
        raise ValueError(
            f"{directory}: the bank needs {images * record / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; make room or set data.bank to another disk."
        )


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
