"""The second stage of `prepare` for CLIP-ZSS: regions of what nobody annotated, beside the bank.

Reads the bank's training squares, the teacher's dense tokens of them and the seen labels; writes
one fused label map an image (data/regions.py), statistics, and pictures to believe them by.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, drawing, files, transforms
from zeroseg_jax.data.bank import REGIONS_FOLDER, FusedSource
from zeroseg_jax.data.benchmarks.splits import Split, get_split
from zeroseg_jax.data.records import encode_regions
from zeroseg_jax.data.seen_labels import SeenLabels, SeenLabelSource, build_label_source
from zeroseg_jax.data.sources import SCENE_PX
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher.clustering import find_regions, free_tokens, fuse_labels
from zeroseg_jax.teacher.views import build_encoder

_BATCH = 16  # squares in one forward of the teacher
_PICTURES = 8
_LEAST_TRUTH = 0.01  # of the map; smaller things do not count in the mean best IoU
_LARGE = 0.2  # of the picture; chosen on tune scenes
_LOG_SECONDS = 5.0


def region_settings(config: Config, split: Split, teacher_digest: str) -> dict[str, Any]:
    """Return what regions depend on and training must agree with."""
    return {
        "teacher": teacher_digest,
        "image_px": config.model.image_px,
        "split": split.name,
        "seen_words": [list(names) for names in split.seen_words],
        "unseen_words": [list(names) for names in split.unseen_words],
        **describe_settings(config),
    }


def describe_settings(config: Config) -> dict[str, Any]:
    """Return the fields of clip_zss that region records depend on, by their names in a manifest."""
    labels, regions = config.clip_zss.labels, config.clip_zss.regions
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
    """Write the regions of a finished bank, or go on with those that were interrupted.

    Args:
      config: names the split, the labels and the settings of the regions.
      directory: of the bank.
      clip: the teacher that made it.
      log: takes progress lines.
      host_index, host_count: see prepare.prepare_bank.

    Returns:
      What report.json holds, or None where other hosts are not done.

    Raises:
      ValueError: no finished bank, settings that do not fit the grid, or a mask that cannot be
        read; names it.
    """
    split = get_split(config.clip_zss.labels.split)
    images = bank.BankSource(directory)
    settings = region_settings(config, split, clip.digest)
    folder = directory / REGIONS_FOLDER
    bank.begin_bank(folder, settings)
    labels = build_label_source(config, split.classes, split.seen, split.unseen, SCENE_PX)
    work = _Worker(config, split, clip, images, labels)
    bounds = _shard_bounds(directory, images.manifest["shards"])
    mine = [i for i in range(host_index, len(bounds), host_count) if not bank.has_shard(folder, i)]
    begin = last = time.time()
    total, done = sum(bounds[i][1] - bounds[i][0] for i in mine), 0
    with region_threads() as pool:
        for shard in mine:
            records: list[bytes] = []
            for start in range(*bounds[shard], _BATCH):
                rows = range(start, min(start + _BATCH, bounds[shard][1]))
                records += work.encode(rows, pool)
                done += len(rows)
                if time.time() - last > _LOG_SECONDS or done == total:
                    last = time.time()
                    rate = done / max(last - begin, 1e-9)
                    left = (total - done) / rate
                    log(f"regions: {done}/{total} images, {rate:.1f} images/s, ETA {left:.0f} s")
            bank.write_shard(folder, shard, records, [])
    if not all(bank.has_shard(folder, i) for i in range(len(bounds))):
        log("regions: other hosts are not done; the last one closes them")
        return None
    bank.finish_bank(folder, len(bounds), settings)
    return write_report(directory, split, log)


@contextlib.contextmanager
def region_threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Give a pool of a thread a core, for images side by side.

    Products that start threads of their own would only get in each other's way.
    """
    with (
        threadpool_limits(1, user_api="blas"),
        concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        yield pool


def _shard_bounds(directory: Path, shards: int) -> list[tuple[int, int]]:
    """Return the records of each shard of the bank as (first, last + 1)."""
    bounds, first = [], 0
    for i in range(shards):
        count = bank.read_summary(directory, i)["records"]
        bounds.append((first, first + count))
        first += count
    return bounds


class _Worker:
    """Makes the records of consecutive images: the teacher on its device, regions in threads."""

    def __init__(
        self, config: Config, split: Split, clip: Teacher, images: bank.BankSource,
        labels: SeenLabelSource,
    ):  # fmt: skip
        self.config, self.split, self.clip = config, split, clip
        self.images, self.labels = images, labels
        self.side = config.clip_zss.regions.teacher_px or config.model.image_px
        self.grid = self.side // clip.patch_px
        map_px = config.model.image_px // config.clip_zss.labels.stride_px
        if self.side % clip.patch_px or map_px % self.grid:
            raise ValueError(
                f"clip_zss.regions.teacher_px: {self.side} px are {self.side / clip.patch_px:g} "
                f"tokens a side, which do not divide the label map's {map_px} px; change it or "
                "clip_zss.labels.stride_px."
            )
        self.settings = config.clip_zss.regions
        self._encode_views = build_encoder(clip) if config.clip_zss.loss.local_weight else None

    def encode(self, rows: range, pool: concurrent.futures.Executor) -> list[bytes]:
        """Return the records of images `rows` of the bank."""
        items = list(pool.map(self.images.__getitem__, rows))
        squares = [transforms.resize(item["image"], self.side, self.side) for item in items]
        tokens = self._dense(np.stack(squares))
        pairs = pool.map(self._find, items, tokens)
        found = list(pairs)
        fused = [entry[0] for entry in found]
        local = self._look_at(items, fused)
        return [
            encode_regions(entry[0], view, entry[1])
            for entry, view in zip(found, local, strict=True)
        ]

    def _dense(self, squares: np.ndarray) -> np.ndarray:
        missing = _BATCH - len(squares)  # one compiled shape
        padded = np.concatenate([squares, np.repeat(squares[-1:], missing, axis=0)])
        mean, std = np.array(self.clip.mean, np.float32), np.array(self.clip.std, np.float32)
        pixels = (padded.astype(np.float32) / 255 - mean) / std
        tokens = self.clip.dense(pixels, self.settings.readout)
        return np.asarray(tokens, np.float32)[: len(squares)]

    def _find(self, item: dict[str, Any], tokens: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
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

    def _look_at(self, items: list[dict[str, Any]], fused: list[np.ndarray]) -> list[np.ndarray]:
        """Encode each region as the teacher sees it: float16 (K, E) an image."""
        if self._encode_views is None:
            return [np.zeros((0, self.clip.embed_dim), np.float16) for _ in items]
        seen = len(self.split.seen)
        shape = (self.settings.max_regions, self.clip.embed_dim)
        local = [np.zeros(shape, np.float16) for _ in items]
        places, views = [], []
        for i, (item, ids) in enumerate(zip(items, fused, strict=True)):
            for k in range(int(ids.max()) + 1 - seen):
                region = ids == seen + k
                view = view_region(item["image"], region, self.settings.local_view, self.clip)
                places.append((i, k))
                views.append(view)
        for start in range(0, len(views), 4 * _BATCH):
            part = views[start : start + 4 * _BATCH]
            padded = np.stack(part + part[-1:] * (4 * _BATCH - len(part)))
            features = np.asarray(self._encode_views(padded[:, None]))[:, 0]
            for (i, k), row in zip(places[start : start + 4 * _BATCH], features, strict=False):
                local[i][k] = row
        return local


def view_region(image: np.ndarray, mask: np.ndarray, how: str, clip: Teacher) -> np.ndarray:
    """Show one region to the teacher.

    Args:
      image: uint8 (side, side, 3).
      mask: bool (H, W), the region, of any resolution.
      how: "masked": all else in the teacher's mean colour; "cropped": the square around it, a
        quarter of its size wider, with what is there; "by_size": masked where it covers more than
        a fifth of the picture, else cropped. Cropped, what lies on a large region is named in its
        place; masked, a small one is a speck.
      clip: of the teacher, its mean and input side.

    Returns:
      uint8 (px, px, 3).
    """
    side = len(image)
    if how == "by_size":
        how = "masked" if mask.mean() > _LARGE else "cropped"
    if how == "masked":
        at = np.arange(side) * len(mask) // side
        grey = np.rint(255 * np.array(clip.mean)).astype(np.uint8)
        image = np.where(mask[at[:, None], at][..., None], image, grey)
        return transforms.resize(image, clip.image_px, clip.image_px)
    scale = side / len(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    ends = np.array([[rows[0], rows[-1] + 1], [columns[0], columns[-1] + 1]]) * scale
    reach = min(int(np.ceil(1.25 * (ends[:, 1] - ends[:, 0]).max())), side)
    first = np.clip(np.rint(ends.mean(axis=1) - reach / 2), 0, side - reach).astype(int)
    cut = image[first[0] : first[0] + reach, first[1] : first[1] + reach]
    return transforms.resize(cut, clip.image_px, clip.image_px)


def best_overlaps(fused: np.ndarray, seen: SeenLabels, split: Split) -> list[float]:
    """Return, for each unseen class in an image, the IoU of the region that fits it best.

    Uses labels that training never sees, to tell how good the regions are.
    """
    overlaps = []
    for i in split.unseen:
        truth = seen.truth == i
        if truth.mean() < _LEAST_TRUTH:
            continue
        latent = range(len(split.seen), int(fused.max()) + 1)
        regions = [fused == k for k in latent]
        overlaps.append(
            max((float((r & truth).sum() / (r | truth).sum()) for r in regions), default=0.0)
        )
    return overlaps


def write_report(directory: Path, split: Split, log: Callable[[str], None]) -> dict[str, Any]:
    """Write BANK/regions/report.json and pictures, and say what they hold."""
    source = FusedSource(directory)
    folder = directory / REGIONS_FOLDER
    stats = [source.stats(i) for i in range(len(source))]
    hidden = np.sum([s["hidden_pixels"] for s in stats], axis=0) if split.unseen else []
    overlaps = [value for s in stats for value in s["best_iou"]]
    whole = [value for s in stats for value in s["one_region_iou"]]
    content = {
        "images": len(stats),
        "split": split.name,
        "unseen_pixels_hidden": {
            names[0]: int(n) for names, n in zip(split.unseen_words, hidden, strict=True)
        },
        "images_with_unseen_pixels": sum(any(s["hidden_pixels"]) for s in stats),
        "images_all_annotated": sum(not s["free_tokens"] for s in stats),
        "images_not_annotated": sum(not s["annotated_pixels"] for s in stats),
        "images_with_fewer_tokens_than_seeds": sum(
            0 < s["free_tokens"] < s["seeds"] for s in stats
        ),
        "images_over_regions_max": sum(s["overflow"] > 0 for s in stats),
        "regions_merged_over_regions_max": sum(s["overflow"] for s in stats),
        "tokens_of_dropped_regions": sum(s["dropped_tokens"] for s in stats),
        "regions_per_image": round(float(np.mean([s["regions"] for s in stats])), 3),
        "mean_best_iou": round(float(np.mean(overlaps)), 4) if overlaps else None,
        "mean_best_iou_of_one_region": round(float(np.mean(whole)), 4) if whole else None,
        "unseen_things": len(overlaps),
    }
    files.write_json(folder / "report.json", content)
    (folder / "pictures").mkdir(exist_ok=True)
    for i in range(min(_PICTURES, len(source))):
        files.write_png(folder / "pictures" / f"{i:03d}.png", draw_regions(source[i], split))
    log(
        f"regions: {content['regions_per_image']:.2f} an image; "
        f"{content['images_all_annotated']} images wholly annotated, "
        f"{content['images_not_annotated']} not at all; "
        f"{content['regions_merged_over_regions_max']} merged over clip_zss.regions.max_regions"
    )
    if split.unseen:
        log(f"regions: pixels of unseen classes that became ignore: "
            f"{content['unseen_pixels_hidden']}")  # fmt: skip
    if overlaps:
        log(
            f"regions: mean best IoU with unseen things {content['mean_best_iou']:.3f} over "
            f"{len(overlaps)} (all unannotated area as one region: "
            f"{content['mean_best_iou_of_one_region']:.3f})"
        )
    log(f"regions: pictures in {folder / 'pictures'}")
    return content


def draw_regions(record: dict[str, Any], split: Split) -> Image.Image:
    """Draw an image, and over it its fused label map with a legend."""
    fused = record["fused"]
    seen = len(split.seen)
    names = [words[0] for words in split.seen_words]
    names += [f"region {k + 1}" for k in range(max(int(fused.max()) + 1 - seen, 0))]
    colours = drawing.palette(names or ["nothing"])
    image = transforms.resize(record["image"], 288, 288)
    at = np.arange(288) * len(fused) // 288
    labels = fused[at[:, None], at]
    both = np.concatenate([image, drawing.overlay(image, labels, colours)], axis=1)
    shown = [i for i in np.unique(fused) if i >= 0]
    return drawing.add_legend(both, [(names[i], tuple(int(v) for v in colours[i])) for i in shown])
