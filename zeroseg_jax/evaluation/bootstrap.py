"""Paired bootstrap over images: runs of `evaluate` read back, intervals of their differences."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.files import read_json

LEVEL = 95  # of the interval, in percent


@dataclasses.dataclass(frozen=True)
class Run:
    """Output directory of `evaluate`, read.

    Attributes:
      directory: path of the report.
      result: content of report.json.
      images: names of the images, in order.
      hit: int64 (images, C), pixels of each class that were predicted right.
      truth: int64 (images, C), true pixels of each class.
      predicted: int64 (images, C), predicted pixels of each class.
    """

    directory: Path
    result: dict[str, Any]
    images: list[str]
    hit: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def read_run(directory: str | Path) -> Run:
    """Read a run.

    Raises:
      ValueError: the directory holds no report, or its files are damaged.
    """
    directory = Path(directory)
    for name in ("report.json", "counts.npz"):
        if not (directory / name).is_file():
            raise ValueError(
                f"{directory}: holds no {name}; give a directory that zeroseg evaluate wrote."
            )
    result = read_json(directory / "report.json", remedy="evaluate again")
    try:
        with np.load(directory / "counts.npz", allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        images = content["images"].tolist()
        hit, truth, predicted = _sum_classes(content, len(images))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{directory}: its report cannot be read ({error}); evaluate again."
        ) from error
    return Run(directory, result, images, hit, truth, predicted)


def _sum_classes(content: dict[str, np.ndarray], images: int) -> list[np.ndarray]:
    classes = len(content["classes"])
    image_ids = np.repeat(np.arange(images), content["lengths"])
    truth, predicted = np.divmod(content["cells"].astype(np.int64), classes)
    sums = []
    for class_ids, counted in ((truth, truth == predicted), (truth, 1), (predicted, 1)):
        table = np.zeros((images, classes), np.int64)
        np.add.at(table, (image_ids, class_ids), content["counts"] * counted)
        sums.append(table)
    return sums


def check_comparable(runs: list[Run]) -> None:
    """Check that all runs scored the same images and classes.

    Raises:
      ValueError: names both directories and the difference.
    """
    first, *others = runs
    for other in others:
        different = [
            f"its {field} is {other.result.get(field)!r} and not {first.result.get(field)!r}"
            for field in ("benchmark", "scene_seed", "options", "mean_over")
            if other.result.get(field) != first.result.get(field)
        ]
        if first.images != other.images:
            different.append(f"it scored {len(other.images)} images, but not the same ones")
        if list(first.result["per_class_iou"]) != list(other.result["per_class_iou"]):
            different.append("its classes differ")
        if different:
            raise ValueError(
                f"{other.directory}: {different[0]}, compared with {first.directory}; evaluate "
                "both on the same images and classes."
            )


def bootstrap(runs: list[Run], draws: int, seed: int) -> list[dict[str, float]]:
    """Compare every run with the first by a paired bootstrap over images.

    Images are resampled with replacement, the same ones for all runs. The mIoU of a resample is
    computed from its pixel sums, as the score itself is.

    Args:
      runs: runs; all are compared with the first.
      draws: number of resamples.
      seed: random seed.

    Returns:
      For each further run: difference in points of mIoU, ends of the 95 % interval, and the
      fraction of resamples with a higher mIoU.

    Source: own; percentile interval of Efron and Tibshirani, 1993.
    """
    images = len(runs[0].images)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws)
    every_image = np.ones((1, images), np.int64)
    as_zero = runs[0].result["mean_over"] != "classes that occur"
    drawn = [_miou(run, weights, as_zero) for run in runs]
    exact = [_miou(run, every_image, as_zero)[0] for run in runs]
    rows = []
    for i in range(1, len(runs)):
        difference = drawn[i] - drawn[0]
        low, high = np.percentile(difference, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
        rows.append(
            {
                "difference": round(100 * float(exact[i] - exact[0]), 2),
                "low": round(100 * float(low), 2),
                "high": round(100 * float(high), 2),
                "ahead_in_draws": round(float((difference > 0).mean()), 4),
            }
        )
    return rows


def _miou(run: Run, weights: np.ndarray, absent_as_zero: bool) -> np.ndarray:
    hit, truth, predicted = (weights @ table for table in (run.hit, run.truth, run.predicted))
    union = truth + predicted - hit
    iou = hit / np.maximum(union, 1)
    if absent_as_zero:
        return iou.mean(axis=1)
    present = union > 0
    return (iou * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
