"""Measurements of a benchmark: pixel counts of each image and their sums over all images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.files import write_npz
from zeroseg_jax.evaluation.attribution import (
    CAUSES,
    attribute_errors,
    compare_segments,
    label_by_majority,
)
from zeroseg_jax.evaluation.boundary import BoundaryIou
from zeroseg_jax.evaluation.confusion import IGNORE, Confusion, count_pixels, mean_of_known
from zeroseg_jax.evaluation.open_metrics import match_masks, open_miou

# Bin edges of the table of segment sizes, as fractions of the image.
SIZE_EDGES = (0.0, 0.01, 0.05, 0.25, 0.5, 1.0)
_IMAGES_PER_GROUP, _CONFUSIONS = 3, 15
_LEAST_USED_SHARE = 0.01

Cells = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass
class ImageCounts:
    """Measurements of one image.

    Attributes:
      name: name of the image.
      counts: sparse confusion of the prediction, from count_pixels.
      oracle_naming: sparse confusion of the segments with their commonest true classes.
      oracle_segments: sparse confusion of the true regions with their commonest predictions.
      agreement: int64 (3,) counts of purity and completeness, from compare_segments.
      errors: int64 (4,) wrong pixels in the order of CAUSES.
      boundary: sums of boundary IoU.
      shares: float (S,) area of each segment as a fraction of the image.
      ignored_px: number of ignored pixels.
      miou: mean IoU of this image; NaN if no pixel counts.
      stretched: True if the image is too long for the protocol and was stretched.
    """

    name: str
    counts: Cells
    oracle_naming: Cells
    oracle_segments: Cells
    agreement: np.ndarray
    errors: np.ndarray
    boundary: BoundaryIou
    shares: np.ndarray
    ignored_px: int
    miou: float
    stretched: bool = False


def measure_image(
    benchmark: Any, item: dict[str, Any], labels: np.ndarray, segments: np.ndarray
) -> ImageCounts:
    """Measure the prediction of one image; independent of all others, so it runs in threads.

    Args:
      benchmark: any object with class_names and has_background.
      item: image uint8 (H, W, 3), label int32 (H, W) and name.
      labels: int (H, W), predicted classes.
      segments: int (H, W), segment ids.

    Raises:
      ValueError: the sizes differ, or a label is out of range; names the image.
    """
    truth, name, classes = item["label"], item["name"], len(benchmark.class_names)
    if truth.shape != item["image"].shape[:2]:
        height, width = item["image"].shape[:2]
        raise ValueError(
            f"{name}: the image is {width} x {height} px, but its mask "
            f"{truth.shape[1]} x {truth.shape[0]} px; give the mask of this image."
        )
    counts = count_pixels(truth, labels, classes, name)
    boundary = BoundaryIou(classes)
    true_band = boundary.add(truth, labels)
    majority, agreement, sizes = compare_segments(segments, truth)
    return ImageCounts(
        name=name,
        counts=counts,
        oracle_naming=count_pixels(truth, majority, classes, name),
        oracle_segments=count_pixels(truth, label_by_majority(truth, labels), classes, name),
        agreement=agreement,
        errors=attribute_errors(
            truth, labels, majority, true_band, has_background=benchmark.has_background
        ),
        boundary=boundary,
        shares=sizes / segments.size,
        ignored_px=int((truth == IGNORE).sum()),
        miou=_image_miou(counts, classes),
    )


class Measurements:
    """Sums of ImageCounts over a benchmark.

    Attributes:
      benchmark: any object with name, class_names and has_background.
      confusion: confusion matrix of the predictions.
    """

    def __init__(self, benchmark: Any):
        self.benchmark = benchmark
        classes = len(benchmark.class_names)
        self.confusion = Confusion(classes)
        self._oracle_naming, self._oracle_segments = Confusion(classes), Confusion(classes)
        self._agreement, self._errors = np.zeros(3, np.int64), np.zeros(len(CAUSES), np.int64)
        self._boundary = BoundaryIou(classes)
        self._official = tuple(getattr(benchmark, "official_images", ()))
        self._masks = np.zeros(4)  # of open_metrics.match_masks
        self._names: list[str] = []
        self._mious: list[float] = []
        self._counts: list[Cells] = []
        self._sizes = np.zeros(len(SIZE_EDGES) - 1, np.int64)
        self._used = self._images_with_ignored = self._ignored_px = 0
        self._stretched: list[str] = []

    def add(self, image: ImageCounts) -> None:
        """Add an image; images come in the order of the benchmark."""
        self.confusion.add_counts(*image.counts)
        self._oracle_naming.add_counts(*image.oracle_naming)
        self._oracle_segments.add_counts(*image.oracle_segments)
        self._agreement += image.agreement
        self._errors += image.errors
        self._boundary.merge(image.boundary)
        self._masks += match_masks(*image.counts, len(self.benchmark.class_names))
        self._names.append(image.name)
        self._mious.append(image.miou)
        self._counts.append(image.counts)
        self._sizes += np.histogram(image.shares, SIZE_EDGES)[0]
        self._used += int((image.shares > _LEAST_USED_SHARE).sum())
        self._images_with_ignored += image.ignored_px > 0
        self._ignored_px += image.ignored_px
        if image.stretched:
            self._stretched.append(image.name)

    @property
    def notes(self) -> list[str]:
        """Warnings about the run, each with the number of images that it concerns."""
        notes = []
        count = len(self._names)
        if self._official and count not in self._official:
            either = " or ".join(map(str, self._official))
            notes.append(f"a score on {count} of {either} images is not comparable to others")
        empty = [n for n, value in zip(self._names, self._mious, strict=True) if np.isnan(value)]
        if empty:
            notes.append(f"{empty[0]}: every pixel is ignored ({len(empty)} such images)")
        present = int((self.confusion.matrix.sum(axis=1) > 0).sum())
        if present == 1 < len(self.benchmark.class_names) and self._images_with_ignored == count:
            notes.append(
                "every mask has only one class and ignored pixels, so the score is meaningless; "
                "run `zeroseg verify`"
            )
        if self._stretched:
            notes.append(
                f"{self._stretched[0]}: longer than the protocol's limit, stretched to fit "
                f"a window ({len(self._stretched)} such images)"
            )
        return notes

    def summarise(self, unseen: list[int], similarity: np.ndarray | None = None) -> dict[str, Any]:
        """Return the numbers of report.json; ratios are in percent.

        Args:
          unseen: ids of unseen classes; empty for no seen and unseen means.
          similarity: result of open_metrics.name_similarity; None for no open mIoU.
        """
        iou, masks, matched, renamed = self._masks
        confusion, names = self.confusion, self.benchmark.class_names
        as_zero = bool(getattr(self.benchmark, "absent_as_zero", False))
        result = {
            "benchmark": self.benchmark.name,
            "miou": percent(confusion.miou(absent_as_zero=as_zero)),
            "mean_over": "all classes, absent ones as 0" if as_zero else "classes that occur",
            "present_classes": confusion.present(),
            "classes": len(names),
            "images": len(self._names),
            "official_images": list(self._official),
            "scene_seed": getattr(self.benchmark, "seed", None),
            "options": dict(getattr(self.benchmark, "options", {})),
            "pixel_accuracy": percent(confusion.pixel_accuracy()),
            "mean_accuracy": percent(confusion.mean_accuracy()),
            "frequency_weighted_iou": percent(confusion.frequency_weighted_iou()),
            "boundary_miou": percent(self._boundary.miou()),
            "mask_miou": percent(iou / max(masks, 1)),
            "masks_renamed": percent(renamed / max(matched, 1)),
            "open_miou": None
            if similarity is None
            else percent(open_miou(confusion.matrix, similarity)),
            "per_class_iou": _by_class(names, confusion.class_iou()),
            "per_class_accuracy": _by_class(names, confusion.class_accuracy()),
            "per_class_boundary_iou": _by_class(names, self._boundary.class_iou()),
            "confusion_pairs": self._confusion_pairs(),
            "diagnostics": self._diagnostics(),
            "affected": {
                "images_with_ignored_pixels": self._images_with_ignored,
                "ignored_pixels": self._ignored_px,
                "images_stretched": len(self._stretched),
                "images_without_a_counted_pixel": int(np.isnan(self._mious).sum()),
            },
            "notes": self.notes,
        }
        if unseen:
            split = confusion.split_miou(unseen)
            result["split"] = {key: percent(value) for key, value in split.items()}
            result["split"]["unseen_classes"] = [names[c] for c in unseen]
        return result

    def _diagnostics(self) -> dict[str, Any]:
        pure, complete, known = (int(count) for count in self._agreement)
        known = max(known, 1)
        return {
            "oracle_naming_miou": percent(self._oracle_naming.miou()),
            "oracle_segments_miou": percent(self._oracle_segments.miou()),
            "segment_purity": percent(pure / known),
            "segment_completeness": percent(complete / known),
            "wrong_pixels": {
                cause: percent(count / known)
                for cause, count in zip(CAUSES, self._errors, strict=True)
            },
            "segments_used_per_image": round(self._used / len(self._names), 2),
            "segment_sizes": {
                f"{100 * low:g} to {100 * high:g} % of the image": int(count)
                for low, high, count in zip(SIZE_EDGES, SIZE_EDGES[1:], self._sizes, strict=False)
            },
        }

    def _confusion_pairs(self) -> list[dict[str, Any]]:
        """List the most frequent confusions of two classes, most pixels first."""
        wrong = self.confusion.matrix.copy()
        np.fill_diagonal(wrong, 0)
        truth = self.confusion.matrix.sum(axis=1)
        names = self.benchmark.class_names
        order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
        pairs = (divmod(int(cell), len(names)) for cell in order)
        return [
            {
                "truth": names[a],
                "prediction": names[b],
                "pixels": int(wrong[a, b]),
                "share_of_truth": percent(wrong[a, b] / truth[a]),
            }
            for a, b in pairs
            if wrong[a, b]
        ]

    def choose_images(self) -> list[tuple[str, int]]:
        """Return titles and indices of the best, median and worst images, without repetition."""
        known = [i for i, value in enumerate(self._mious) if not np.isnan(value)]
        order = sorted(known, key=lambda i: (-self._mious[i], i))
        middle = max(len(order) // 2 - _IMAGES_PER_GROUP // 2, 0)
        groups = (
            ("best", order[:_IMAGES_PER_GROUP]),
            ("median", order[middle : middle + _IMAGES_PER_GROUP]),
            ("worst", order[::-1][:_IMAGES_PER_GROUP]),
        )
        chosen: dict[int, str] = {}
        for kind, indices in groups:
            for i in indices:
                title = f"{kind}: {self._names[i]}, mIoU {100 * self._mious[i]:.1f}"
                chosen.setdefault(i, title)
        return [(title, i) for i, title in chosen.items()]

    def write_counts(self, path: Path) -> None:
        """Write counts.npz, which `compare` resamples: the sparse confusion of every image."""
        lengths = [len(cells) for cells, _ in self._counts]
        write_npz(
            path,
            compressed=True,
            images=np.array(self._names),
            classes=np.array(self.benchmark.class_names),
            lengths=np.array(lengths, np.int64),
            cells=np.concatenate([cells for cells, _ in self._counts]).astype(np.int32),
            counts=np.concatenate([counts for _, counts in self._counts]).astype(np.int64),
        )


def percent(ratio: float) -> float | None:
    """Return a ratio in percent, rounded to two decimals; None for NaN."""
    return None if np.isnan(ratio) else round(100 * float(ratio), 2)


def _by_class(names: tuple[str, ...], ratios: np.ndarray) -> dict[str, float | None]:
    return {name: percent(ratio) for name, ratio in zip(names, ratios, strict=True)}


def _image_miou(counts: Cells, classes: int) -> float:
    """Return the mean IoU of one image over the classes in it, from its sparse counts."""
    cells, numbers = counts
    true_ids, predicted_ids = np.divmod(cells, classes)
    true = np.bincount(true_ids, numbers, classes)
    predicted = np.bincount(predicted_ids, numbers, classes)
    hit = np.bincount(true_ids, numbers * (true_ids == predicted_ids), classes)
    union = true + predicted - hit
    return mean_of_known(np.where(union > 0, hit / np.maximum(union, 1), np.nan))
