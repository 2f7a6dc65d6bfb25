"""All that is measured over a benchmark, image by image, and what is kept of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data import files
from zeroseg_jax.evaluation.attribution import CAUSES, attribute_errors, judge_cut, name_by_truth
from zeroseg_jax.evaluation.boundary import BoundaryIou
from zeroseg_jax.evaluation.confusion import IGNORE, Confusion, count_pixels, mean_of_known

# Shares of the image that a segment covers, as they are tabulated.
SIZE_EDGES = (0.0, 0.01, 0.05, 0.25, 0.5, 1.0)
_SHOWN_EACH, _CONFUSIONS = 3, 15
_USED = 0.01


@dataclasses.dataclass
class Record:
    """One image: sparse counts of the prediction and of both oracles, band sums, sizes."""

    name: str
    counts: tuple[np.ndarray, np.ndarray]
    oracle_naming: tuple[np.ndarray, np.ndarray]
    oracle_cut: tuple[np.ndarray, np.ndarray]
    cut: np.ndarray
    errors: np.ndarray
    boundary: BoundaryIou
    shares: np.ndarray
    ignored_px: int
    miou: float
    stretched: bool = False


class Scores:
    """Sums over images."""

    def __init__(self, benchmark: Any):
        self.benchmark = benchmark
        classes = len(benchmark.class_names)
        self.confusion = Confusion(classes)
        self.oracle_naming, self.oracle_cut = Confusion(classes), Confusion(classes)
        self._cut, self._errors = np.zeros(3, np.int64), np.zeros(len(CAUSES), np.int64)
        self.boundary = BoundaryIou(classes)
        self._official = tuple(getattr(benchmark, "official_images", ()))
        self._names: list[str] = []
        self._mious: list[float] = []
        self._counts: list[tuple[np.ndarray, np.ndarray]] = []
        self._sizes = np.zeros(len(SIZE_EDGES) - 1, np.int64)
        self._used, self._ignored, self._stretched = 0, [0, 0], []

    @staticmethod
    def measure(
        benchmark: Any, item: dict[str, Any], labels: np.ndarray, segments: np.ndarray
    ) -> Record:
        """Measure one image; touches no sum, so that images can be measured side by side.

        Raises:
          ValueError: sizes that differ, labels out of range; names the image.
        """
        truth, name, classes = item["label"], item["name"], len(benchmark.class_names)
        if truth.shape != item["image"].shape[:2]:
            height, width = item["image"].shape[:2]
            raise ValueError(
                f"{name}: the image is {width} x {height} px, but its mask "
                f"{truth.shape[1]} x {truth.shape[0]} px; both must be the same picture."
            )
        counts = count_pixels(truth, labels, classes, name)
        boundary = BoundaryIou(classes)
        rim = boundary.add(truth, labels)
        named, cut, sizes = judge_cut(segments, truth)
        return Record(
            name=name,
            counts=counts,
            oracle_naming=count_pixels(truth, named, classes, name),
            oracle_cut=count_pixels(truth, name_by_truth(truth, labels), classes, name),
            cut=cut,
            errors=attribute_errors(
                truth, labels, named, rim, has_background=benchmark.has_background
            ),
            boundary=boundary,
            shares=sizes / segments.size,
            ignored_px=int((truth == IGNORE).sum()),
            miou=_image_miou(counts, classes),
        )

    def add(self, record: Record) -> None:
        """Count an image; in the order of the benchmark."""
        self.confusion.add_counts(*record.counts)
        self.oracle_naming.add_counts(*record.oracle_naming)
        self.oracle_cut.add_counts(*record.oracle_cut)
        self._cut += record.cut
        self._errors += record.errors
        self.boundary.merge(record.boundary)
        self._names.append(record.name)
        self._mious.append(record.miou)
        self._counts.append(record.counts)
        self._sizes += np.histogram(record.shares, SIZE_EDGES)[0]
        self._used += int((record.shares > _USED).sum())
        if record.ignored_px:
            self._ignored[0] += 1
            self._ignored[1] += record.ignored_px
        if record.stretched:
            self._stretched.append(record.name)

    @property
    def notes(self) -> list[str]:
        """Say what was not as usual, and in how many images."""
        notes = []
        count = len(self._names)
        if self._official and count not in self._official:
            either = " or ".join(map(str, self._official))
            notes.append(f"a score on {count} of {either} images compares with no other")
        nothing = [n for n, value in zip(self._names, self._mious, strict=True) if np.isnan(value)]
        if nothing:
            notes.append(f"{nothing[0]}: no pixel counts ({len(nothing)} such images)")
        if self._stretched:
            notes.append(
                f"{self._stretched[0]}: longer than the protocol's limit, stretched across so "
                f"that a window fits ({len(self._stretched)} such images)"
            )
        return notes

    def summarise(self, unseen: list[int]) -> dict[str, Any]:
        """Return the numbers of report.json, in percent."""
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
            "boundary_miou": percent(self.boundary.miou()),
            "per_class_iou": _by_class(names, confusion.class_iou()),
            "per_class_accuracy": _by_class(names, confusion.class_accuracy()),
            "per_class_boundary_iou": _by_class(names, self.boundary.class_iou()),
            "confusion_pairs": self._confusion_pairs(),
            "diagnostics": {
                "oracle_naming_miou": percent(self.oracle_naming.miou()),
                "oracle_segments_miou": percent(self.oracle_cut.miou()),
                "segment_purity": percent(self._cut[0] / max(self._cut[2], 1)),
                "segment_completeness": percent(self._cut[1] / max(self._cut[2], 1)),
                "wrong_pixels": {
                    cause: percent(count / max(self._cut[2], 1))
                    for cause, count in zip(CAUSES, self._errors, strict=True)
                },
                "segments_used_per_image": round(self._used / len(self._names), 2),
                "segment_sizes": {
                    f"{100 * low:g} to {100 * high:g} % of the image": int(count)
                    for low, high, count in zip(
                        SIZE_EDGES, SIZE_EDGES[1:], self._sizes, strict=False
                    )
                },
            },
            "affected": {
                "images_with_ignored_pixels": self._ignored[0],
                "ignored_pixels": self._ignored[1],
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

    def _confusion_pairs(self) -> list[dict[str, Any]]:
        """List the commonest confusions: true class, prediction, share of the true class."""
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

    def choose_pictures(self) -> list[tuple[str, int]]:
        """Choose the best, median and worst images: titles and indices, none twice."""
        known = [i for i, value in enumerate(self._mious) if not np.isnan(value)]
        order = sorted(known, key=lambda i: (-self._mious[i], i))
        middle = max(len(order) // 2 - _SHOWN_EACH // 2, 0)
        groups = (
            ("best", order[:_SHOWN_EACH]),
            ("median", order[middle : middle + _SHOWN_EACH]),
            ("worst", order[::-1][:_SHOWN_EACH]),
        )
        chosen: dict[int, str] = {}
        for kind, indices in groups:
            for i in indices:
                title = f"{kind}: {self._names[i]}, mIoU {100 * self._mious[i]:.1f}"
                chosen.setdefault(i, title)
        return [(title, i) for i, title in chosen.items()]

    def save_counts(self, path: Path) -> None:
        """Write what `compare` resamples: names, classes and every image's sparse confusion."""
        lengths = [len(cells) for cells, _ in self._counts]
        files.write_npz(
            path,
            compressed=True,
            images=np.array(self._names),
            classes=np.array(self.benchmark.class_names),
            lengths=np.array(lengths, np.int64),
            cells=np.concatenate([cells for cells, _ in self._counts]).astype(np.int32),
            counts=np.concatenate([counts for _, counts in self._counts]).astype(np.int64),
        )


def percent(ratio: float) -> float | None:
    """Return a ratio in percent, rounded to two places; None for NaN."""
    return None if np.isnan(ratio) else round(100 * float(ratio), 2)


def _by_class(names: tuple[str, ...], ratios: np.ndarray) -> dict[str, float | None]:
    return {name: percent(ratio) for name, ratio in zip(names, ratios, strict=True)}


def _image_miou(counts: tuple[np.ndarray, np.ndarray], classes: int) -> float:
    """Return one image's mean IoU over the classes in it, from its sparse counts."""
    cells, numbers = counts
    truth, guess = np.divmod(cells, classes)
    true = np.bincount(truth, numbers, classes)
    guessed = np.bincount(guess, numbers, classes)
    hit = np.bincount(truth, numbers * (truth == guess), classes)
    union = true + guessed - hit
    return mean_of_known(np.where(union > 0, hit / np.maximum(union, 1), np.nan))
