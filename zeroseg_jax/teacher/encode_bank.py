"""Bank preparation: encode all views of all images with the teacher and write bank shards.

Reading, the teacher's forward pass and writing overlap. An interrupted bank is resumed.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, locks, mirrors, sources, transforms
from zeroseg_jax.data.joined_banks import count_targets
from zeroseg_jax.data.progress import ProgressLog
from zeroseg_jax.data.records import check_finite, count_record_bytes, encode_record
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.view_cutting import choose_cut
from zeroseg_jax.teacher.views import EncodeSquares, build_padded_encoder, build_square_encoder

# Patches in one forward pass, over all its views: 480 views of ViT-L/14 on an accelerator. Larger
# groups are no faster on a CPU and delay the first progress line.
_PATCHES_PER_ACCELERATOR, _PATCHES_PER_CPU = 122_880, 8_192
_MIN_THREADS = 4
_GROUPS_AHEAD = 2
_SKIPPED_SHOWN = 20


def prepare_bank(
    config: Config,
    directory: Path,
    clip: Teacher,
    log: Callable[[str], None] = print,
    *,
    host_index: int = 0,
    host_count: int = 1,
    trains: bool = False,
) -> dict[str, Any] | None:
    """Write the bank, or resume one that was interrupted.

    Args:
      config: settings of the source, the grids and the sizes.
      directory: directory of the bank.
      clip: teacher that encodes the views.
      log: receiver of progress lines.
      host_index, host_count: index and number of machines that share the directory. Each
        encodes every host_count-th shard; the last one to finish writes the manifest.
      trains: True refuses a source with fewer images than optim.batch_global.

    Returns:
      The manifest, or None while other hosts are not done.

    Raises:
      ValueError: the disk is too small, the directory holds a bank of other settings, host_index
        is not below host_count, or the source is too small for training.
    """
    if not 0 <= host_index < host_count:
        raise ValueError(f"--host_index: {host_index} is not below --host_count {host_count}.")
    needed_px = transforms.count_needed_px(list_windows(config), clip.image_px)
    source = sources.build_source(config, max(needed_px, config.model.image_px))
    for note in getattr(source, "notes", ()):
        log(f"prepare: {note}")
    if trains:
        sources.check_batch(config.optim.batch_global, len(source))
    settings = bank_settings(config, clip, source)
    with locks.lock_directory(directory, "prepares a bank", name=f".lock-{host_index}"):
        return _prepare(config, directory, clip, source, settings, log, host_index, host_count)


def _prepare(
    config: Config, directory: Path, clip: Teacher, source: sources.Source,
    settings: dict[str, Any], log: Callable[[str], None], host_index: int, host_count: int,
) -> dict[str, Any] | None:  # fmt: skip
    mirrors.pull(directory)
    bank.begin_bank(directory, settings)
    shards = -(-len(source) // bank.SHARD_IMAGES)
    there = [i for i in range(host_index, shards, host_count) if bank.has_shard(directory, i)]
    damaged = set(bank.verify_shards(directory, there))
    for shard in there:
        damage = shard in damaged
        if damage or _has_replaced(directory, shard, source):
            reason = "it is damaged" if damage else "images were replaced"
            log(f"prepare: shard {shard} is encoded again, because {reason}")
            # Their records shift the places of the others: what was made of them does not fit.
            for folder in (bank.REGIONS_FOLDER, bank.DENSE_FOLDER):
                bank.remove_shard(directory / folder, shard)
            bank.remove_shard(directory, shard)
    todo = [i for i in range(host_index, shards, host_count) if not bank.has_shard(directory, i)]
    images = sum(len(shard_range(i, len(source))) for i in todo)
    _check_room(config, clip, directory, images, len(source), log)
    encode_shards(config, clip, directory, source, todo, log)
    mirrors.pull(directory)  # shards of other hosts
    left = [i for i in range(shards) if not bank.has_shard(directory, i)]
    if left:
        log(f"prepare: {len(left)} of {shards} shards are left to other hosts")
        return None
    manifest = bank.finish_bank(directory, shards, settings)
    log(f"prepare: {manifest['records']} records, {len(manifest['skipped'])} skipped")
    for entry in manifest["skipped"][:_SKIPPED_SHOWN]:
        log(f"  skipped {entry['reason']}")
    return manifest


def _has_replaced(directory: Path, shard: int, source: sources.Source) -> bool:
    """Return whether an image has another size now, or was skipped and can be read now."""
    summary = bank.read_summary(directory, shard)
    before = summary.get("file_sizes", "")  # older banks have none
    if before and before != sources.digest_sizes(source, shard_range(shard, len(source))):
        return True
    for entry in summary["skipped"]:
        with contextlib.suppress(transforms.ImageError):
            source[entry["index"]]
            return True
    return False


def bank_settings(config: Config, clip: Teacher, source: sources.Source) -> dict[str, Any]:
    """Return the settings that identify a bank. A bank with other settings is not resumed."""
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


def _check_room(
    config: Config, clip: Teacher, directory: Path, images: int, total: int,
    log: Callable[[str], None],
) -> None:  # fmt: skip
    views = len(list_windows(config))
    dtype, side, dense = config.teacher.dtype, config.model.image_px, count_targets(config)
    record = count_record_bytes(side, views, clip.embed_dim, dtype, dense)
    free = shutil.disk_usage(directory).free
    log(
        f"prepare: {images} of {total} images to encode, {views} views each, "
        f"{images * record / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free"
    )
    if images * record * 1.05 > free:
        raise ValueError(
            f"{directory}: the bank needs {images * record / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; free some space or set data.bank to a directory on another disk."
        )


def shard_range(shard: int, total: int) -> range:
    """Return the indices of the images of a shard, of a source of `total` images."""
    return range(shard * bank.SHARD_IMAGES, min((shard + 1) * bank.SHARD_IMAGES, total))


@dataclasses.dataclass
class _Group:
    """Images of one shard that are encoded in one forward pass."""

    shard: int
    indices: range
    ends_shard: bool
    items: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skipped: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    features: jax.Array | None = None
    first_views: jax.Array | None = None


def _split(todo: list[int], total: int, group_images: int) -> list[_Group]:
    groups = []
    for shard in todo:
        images = shard_range(shard, total)
        for start in range(0, len(images), group_images):
            part = images[start : start + group_images]
            groups.append(_Group(shard, part, part.stop == images.stop))
    return groups


def count_group_images(clip: Teacher, views: int) -> int:
    """Return the number of images of a forward pass: a multiple of the devices' number.

    Args:
      clip: teacher that encodes the views.
      views: number of views of an image.
    """
    devices = jax.local_device_count()
    on_cpu = jax.default_backend() == "cpu"
    patches = _PATCHES_PER_CPU if on_cpu else _PATCHES_PER_ACCELERATOR
    image_patches = views * (clip.image_px // clip.patch_px) ** 2
    most = devices * max(1, patches // image_patches)
    # Groups are of equal size, so that the last group of a shard is not mostly padding.
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
    """Encode and write shards; reading, encoding and writing overlap.

    Args:
      config: settings of the grids and the sizes.
      clip: teacher that encodes the views.
      directory: directory of the bank.
      source: images to encode.
      todo: numbers of the shards to write.
      log: receiver of progress lines.

    Raises:
      ValueError: a feature is not finite, or overflows the bank's dtype.
    """
    images = sum(len(shard_range(i, len(source))) for i in todo)
    progress = ProgressLog("prepare", images, "images", log)
    windows = list_windows(config)

    on_device = choose_cut(config.teacher.cut, config.teacher.grids, jax.default_backend())
    prepare_views = transforms.square_for_views if on_device else transforms.cut_views
    side = config.model.image_px

    def read(index: int) -> dict[str, Any]:
        try:
            item = source[index]
        except transforms.ImageError as error:
            return {"skipped": {"index": index, "reason": str(error)}}
        found = {"index": index, "name": item["name"]}
        found["views"] = views = prepare_views(item["image"], windows, clip.image_px)
        whole = len(views) == min(item["image"].shape[:2])  # nothing was resized
        # Then the training square is the first view, which the device returns.
        if not (on_device and whole and side == clip.image_px):
            found["image"] = transforms.square_crop(item["image"], side)
        return found

    build = build_square_encoder if on_device else build_padded_encoder
    encode = build(clip, windows, jax.local_devices())
    group_images = count_group_images(clip, len(windows))
    shard = _Shard(directory, config.teacher.dtype, source)
    threads = max(_MIN_THREADS, os.cpu_count() or 1)
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as readers,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        sent: list[_Group] = []
        for group in _read_ahead(_split(todo, len(source), group_images), read, readers):
            _send(group, encode, group_images)
            sent.append(group)
            # The group before is packed while the devices work on this one.
            if len(sent) > 1:
                shard.add(sent.pop(0), writer, progress)
        if sent:
            shard.add(sent.pop(0), writer, progress)
        shard.wait()


def _read_ahead(
    groups: list[_Group], read: Callable[[int], dict[str, Any]], pool: concurrent.futures.Executor
) -> Iterator[_Group]:
    """Yield groups with their items; the next groups, also of later shards, are being read."""
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


def _send(group: _Group, encode: EncodeSquares, group_images: int) -> None:
    if group.items:
        views = [item.pop("views") for item in group.items]
        group.features, group.first_views = encode(views, group_images)


class _Shard:
    """Records of the current shard; a complete shard is written in the background."""

    def __init__(self, directory: Path, dtype: str, source: sources.Source):
        self._directory, self._dtype, self._source = directory, dtype, source
        self._records: list[bytes] = []
        self._skipped: list[dict[str, Any]] = []
        self._writing: concurrent.futures.Future | None = None

    def add(
        self, group: _Group, writer: concurrent.futures.Executor, progress: ProgressLog
    ) -> None:
        self._records += _pack(group, self._dtype)
        self._skipped += group.skipped
        progress.add(len(group.indices))
        if group.ends_shard:
            self.wait()
            sizes = sources.digest_sizes(self._source, shard_range(group.shard, len(self._source)))
            self._writing = writer.submit(
                bank.write_shard, self._directory, group.shard, self._records, self._skipped, sizes
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
    if any("image" not in item for item in group.items):
        for item, view in zip(group.items, np.asarray(group.first_views), strict=False):
            item.setdefault("image", view)
    for item, rows in zip(group.items, features, strict=True):
        check_finite(rows, item["name"])
        small = rows.astype(dtype)
        if not np.isfinite(small).all():
            raise ValueError(
                f"{item['name']}: a teacher feature of {np.abs(rows).max():.3g} overflows {dtype}; "
                "set teacher.dtype=float32."
            )
        records.append(encode_record(item["index"], item["name"], item["image"], small))
    return records
