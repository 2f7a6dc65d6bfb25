"""Region preparation for CLIP-ZSS: fused label maps of the bank's images.

The second stage of `prepare`. For each image of the bank, unannotated tokens of the teacher are
clustered into regions and fused with the seen labels. Records are stored beside the bank.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, transforms
from zeroseg_jax.data.bank import REGIONS_FOLDER
from zeroseg_jax.data.benchmarks.splits import Split, get_split
from zeroseg_jax.data.playground.scenes import SCENE_PX
from zeroseg_jax.data.records import encode_regions
from zeroseg_jax.data.seen_labels import SeenLabels, SeenLabelSource, build_label_source
from zeroseg_jax.teacher.clustering import check_windows, find_regions, free_tokens, fuse_labels
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.region_report import report_regions
from zeroseg_jax.teacher.second_stage import BATCH, embed_patches, write_records
from zeroseg_jax.teacher.views import build_encoder

_VIEW_BATCH = 4 * BATCH  # region views in one forward pass
_MIN_TRUTH = 0.01  # fraction of the map; smaller things do not count in the mean best IoU
_LARGE = 0.2  # fraction of the image above which a region counts as large; chosen on tune scenes


def region_settings(
    config: Config, split: Split, clip: Teacher, affinity: Teacher | None = None
) -> dict[str, Any]:
    """Return the settings that identify region records; training must have the same."""
    second = {} if affinity is None else {"affinity_digest": affinity.digest}
    return {
        "teacher": clip.digest,
        "image_px": config.model.image_px,
        "split": split.name,
        "seen_words": [list(names) for names in split.seen_words],
        "unseen_words": [list(names) for names in split.unseen_words],
        **describe_settings(config),
        **second,
    }


def describe_settings(config: Config) -> dict[str, Any]:
    """Return the fields of clip_zss that region records depend on, by their names in a manifest."""
    labels, regions = config.clip_zss.labels, config.clip_zss.regions
    # Absent without one, so that the manifests of regions made before the setting still agree.
    second = {"affinity": config.teacher.affinity} if config.teacher.affinity else {}
    return {
        "split": labels.split,
        "labels": labels.directory,
        "label_stride": labels.stride_px,
        "dense_px": regions.teacher_px or config.model.image_px,
        "readout": regions.readout,
        "windows": list(regions.seed_windows),
        "iterations": regions.kmeans_iterations,
        "merge_above": regions.merge_cosine,
        "least_share": regions.min_share,
        "regions_max": regions.max_regions,
        "local_view": regions.local_view if config.clip_zss.loss.local_weight else "",
        **second,
    }


def prepare_regions(
    config: Config,
    directory: Path,
    clip: Teacher,
    log: Callable[[str], None] = print,
    *,
    host_index: int = 0,
    host_count: int = 1,
) -> dict[str, Any] | None:
    """Write the regions of a finished bank, or resume if interrupted.

    Args:
      config: settings of the split, the labels and the regions.
      directory: directory of the bank.
      clip: teacher that encoded the bank.
      log: receiver of progress lines.
      host_index, host_count: index and number of hosts, see prepare_bank.

    Returns:
      The content of report.json, or None while other hosts are not done.

    Raises:
      ValueError: the bank is not finished, settings do not fit the teacher's grid, or a mask
        cannot be read.
    """
    split = get_split(config.clip_zss.labels.split)
    images = bank.BankSource(directory)
    affinity = (
        load_teacher(config.teacher.affinity, field="teacher.affinity")
        if config.teacher.affinity
        else None
    )
    settings = region_settings(config, split, clip, affinity)
    labels = build_label_source(config, split.classes, split.seen, split.unseen, SCENE_PX)
    work = _Worker(config, split, clip, affinity, images, labels)
    with region_threads() as pool:
        complete = write_records(
            directory, REGIONS_FOLDER, settings, lambda rows: work.encode(rows, pool), log,
            name="regions", host_index=host_index, host_count=host_count,
        )  # fmt: skip
    return report_regions(directory, split, log) if complete else None


def count_tokens(config: Config, patch_px: int) -> int:
    """Return the tokens along a side of the teacher's image, if regions can be made of them.

    Args:
      config: sizes of the teacher's image, the training square, the label map and seed windows.
      patch_px: side of a patch of the teacher, or of the affinity tower.

    Raises:
      ValueError: the tokens do not divide the label map, or a seed window has more.
    """
    regions, labels = config.clip_zss.regions, config.clip_zss.labels
    side = regions.teacher_px or config.model.image_px
    grid, map_px = side // patch_px, config.model.image_px // labels.stride_px
    if side % patch_px or not grid or map_px % grid:
        raise ValueError(
            f"clip_zss.regions.teacher_px: {side} px are {side / patch_px:g} tokens a side, which "
            f"does not divide the label map's {map_px} px; change it or clip_zss.labels.stride_px."
        )
    check_windows(grid, grid, regions.seed_windows)
    return grid


@contextlib.contextmanager
def region_threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Yield a pool with a thread for each core, each working on one image.

    BLAS is limited to one thread meanwhile. With its own threads inside the pool's, clustering is
    20 times slower on two cores.
    """
    with (
        threadpool_limits(1, user_api="blas"),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        yield pool


class _Worker:
    """Region records of consecutive images: the teacher on its device, clustering in threads."""

    def __init__(
        self, config: Config, split: Split, clip: Teacher, affinity: Teacher | None,
        images: bank.BankSource, labels: SeenLabelSource,
    ):  # fmt: skip
        self.config, self.split, self.clip, self.affinity = config, split, clip, affinity
        self.images, self.labels = images, labels
        self.grid = count_tokens(config, (affinity or clip).patch_px)
        self.side = config.clip_zss.regions.teacher_px or config.model.image_px
        self.settings = config.clip_zss.regions
        self._encode_views = build_encoder(clip) if config.clip_zss.loss.local_weight else None

    def encode(self, rows: range, pool: concurrent.futures.Executor) -> list[bytes]:
        """Return the records of images `rows` of the bank."""
        items = list(pool.map(self.images.__getitem__, rows))
        squares = [transforms.resize(item["image"], self.side, self.side) for item in items]
        tokens = embed_patches(self.clip, np.stack(squares), self.settings.readout, self.affinity)
        fused, stats = zip(*pool.map(self._fuse, items, tokens), strict=True)
        local = self._encode_region_views(items, fused)
        return [encode_regions(*parts) for parts in zip(fused, local, stats, strict=True)]

    def _fuse(self, item: dict[str, Any], tokens: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the fused label map of an image, and its statistics."""
        seen = self.labels.load(item["index"], item["name"])
        free = free_tokens(seen.labels, self.grid, self.grid)
        regions = find_regions(tokens, free, self.settings)
        fused = fuse_labels(seen.labels, regions.ids, len(self.split.seen))
        stats = {
            "regions": regions.count,
            "seeds": regions.seeds,
            "free_tokens": int(free.sum()),
            "overflow": regions.overflow,
            "dropped_tokens": regions.dropped_tokens,
            "annotated_pixels": int((seen.labels >= 0).sum()),
            "hidden_pixels": seen.hidden.tolist(),
            "best_iou": best_overlaps(fused, seen, self.split),
            "one_region_iou": best_overlaps(
                np.where(fused >= len(self.split.seen), len(self.split.seen), fused),
                seen,
                self.split,
            ),
        }
        return fused, stats

    def _encode_region_views(
        self, items: list[dict[str, Any]], fused: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Encode the view of each region with the teacher: float16 (K, E) an image."""
        if self._encode_views is None:
            return [np.zeros((0, self.clip.embed_dim), np.float16) for _ in items]
        seen = len(self.split.seen)
        shape = (self.settings.max_regions, self.clip.embed_dim)
        local = [np.zeros(shape, np.float16) for _ in items]
        targets, views = [], []
        for features, item, ids in zip(local, items, fused, strict=True):
            for k in range(int(ids.max()) + 1 - seen):
                mask = ids == seen + k
                targets.append(features[k])
                views.append(view_region(item["image"], mask, self.settings.local_view, self.clip))
        for start in range(0, len(views), _VIEW_BATCH):
            part = views[start : start + _VIEW_BATCH]
            padded = np.stack(part + part[-1:] * (_VIEW_BATCH - len(part)))
            rows = np.asarray(self._encode_views(padded[:, None]))[:, 0]
            for target, row in zip(targets[start:], rows[: len(part)], strict=False):
                target[:] = row
        return local


def view_region(image: np.ndarray, mask: np.ndarray, kind: str, clip: Teacher) -> np.ndarray:
    """Build the teacher's view of one region.

    A small region is a speck when masked. A large one may contain other things when cropped.

    Args:
      image: training square, uint8 (side, side, 3).
      mask: pixels of the region, bool (H, W) of any resolution.
      kind: "masked": everything else is the teacher's mean colour; "cropped": the square around
        the region, 1.25 times its size; "by_size": masked above a fifth of the image, else
        cropped.
      clip: teacher with the mean colour and the input side.

    Returns:
      uint8 (px, px, 3), px the teacher's input side.
    """
    side = len(image)
    if kind == "by_size":
        kind = "masked" if mask.mean() > _LARGE else "cropped"
    if kind == "masked":
        at = np.arange(side) * len(mask) // side
        mean = np.rint(255 * np.array(clip.mean)).astype(np.uint8)
        image = np.where(mask[at[:, None], at][..., None], image, mean)
        return transforms.resize(image, clip.image_px, clip.image_px)
    scale = side / len(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    ends = np.array([[rows[0], rows[-1] + 1], [columns[0], columns[-1] + 1]]) * scale
    size = min(int(np.ceil(1.25 * (ends[:, 1] - ends[:, 0]).max())), side)
    top, left = np.clip(np.rint(ends.mean(axis=1) - size / 2), 0, side - size).astype(int)
    crop = image[top : top + size, left : left + size]
    return transforms.resize(crop, clip.image_px, clip.image_px)


def best_overlaps(fused: np.ndarray, seen: SeenLabels, split: Split) -> list[float]:
    """Return the best IoU of any region with each unseen class in the image.

    Measures the quality of regions with labels that are hidden from training.

    Args:
      fused: fused label map, int16 (H, W).
      seen: labels of the image with the hidden truth.
      split: seen and unseen classes.
    """
    overlaps = []
    for i in split.unseen:
        truth = seen.truth == i
        if truth.mean() < _MIN_TRUTH:
            continue
        latent = range(len(split.seen), int(fused.max()) + 1)
        regions = [fused == k for k in latent]
        overlaps.append(
            max((float((r & truth).sum() / (r | truth).sum()) for r in regions), default=0.0)
        )
    return overlaps
