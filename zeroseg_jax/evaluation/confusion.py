"""Segmentation metric: an int64 confusion matrix over a whole benchmark, IoU and accuracies."""

from __future__ import annotations

import numpy as np

IGNORE = -1
_IMAGENET_S_EPS = 1e-10


def count_pixels(
    truth: np.ndarray, prediction: np.ndarray, classes: int, name: str = "image"
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of one image by (true class, predicted class).

    Args:
      truth: int (H, W), class ids from 0; pixels with IGNORE are not counted.
      prediction: int (H, W), class ids from 0.
      classes: number of classes C.
      name: name of the image, for error messages.

    Returns:
      int64 (n,) cells, true class * C + predicted class, ascending; and int64 (n,) counts.

    Raises:
      ValueError: the sizes differ, or a label is out of range; names the image.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"{name}: the mask is {_render_size(truth)} but the prediction "
            f"{_render_size(prediction)}; both must have the size of the image."
        )
    known = truth != IGNORE
    truth, prediction = truth[known].astype(np.int64), prediction[known].astype(np.int64)
    for kind, values in (("mask", truth), ("prediction", prediction)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            wrong = values[(values < 0) | (values >= classes)]
            raise ValueError(
                f"{name}: the {kind} holds {wrong[0]} ({wrong.size} pixels are out of range), but "
                f"class ids are 0..{classes - 1} and {IGNORE} marks ignored pixels of a mask; "
                "check the encoding of its labels."
            )
    counts = np.bincount(truth * classes + prediction, minlength=1)
    cells = np.flatnonzero(counts)
    return cells, counts[cells]


def _render_size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in labels.shape[::-1]) + " px"


class Confusion:
    """Confusion matrix.

    Attributes:
      matrix: int64 (C, C) pixel counts; rows are true classes, columns predicted ones.
    """

    def __init__(self, classes: int):
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, name: str = "image") -> None:
        """Count the pixels of one image; arguments and errors as in count_pixels."""
        self.add_counts(*count_pixels(truth, prediction, len(self.matrix), name))

    def add_counts(self, cells: np.ndarray, counts: np.ndarray) -> None:
        """Add the result of count_pixels; every cell occurs at most once."""
        self.matrix.reshape(-1)[cells] += counts

    def class_iou(self) -> np.ndarray:
        """Return float64 (C,) intersection over union; NaN for a class that never occurs."""
        hit = np.diag(self.matrix).astype(np.float64)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
        return np.where(union > 0, hit / np.maximum(union, 1), np.nan)

    def miou(self, *, absent_as_zero: bool = False) -> float:
        """Return the mean IoU.

        Args:
          absent_as_zero: average over all classes with an absent class as 0 (ImageNet-S). The
            default averages over the classes that occur in truth or prediction.
        """
        if absent_as_zero:
            hit = np.diag(self.matrix).astype(np.float64)
            union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
            return float((hit / (union + _IMAGENET_S_EPS)).mean())
        return mean_of_known(self.class_iou())

    def present(self) -> int:
        """Return the number of classes that occur in truth or prediction."""
        return int((~np.isnan(self.class_iou())).sum())

    def class_accuracy(self) -> np.ndarray:
        """Return float64 (C,) recall of each class; NaN for a class without a true pixel."""
        truth = self.matrix.sum(axis=1)
        return np.where(truth > 0, np.diag(self.matrix) / np.maximum(truth, 1), np.nan)

    def mean_accuracy(self) -> float:
        """Return the mean of class_accuracy over the classes that occur in the truth."""
        return mean_of_known(self.class_accuracy())

    def pixel_accuracy(self) -> float:
        """Return the fraction of pixels with the right class; NaN without a pixel."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")

    def frequency_weighted_iou(self) -> float:
        """Return the IoU averaged over classes, weighted by their fraction of true pixels."""
        total = self.matrix.sum()
        if not total:
            return float("nan")
        share = self.matrix.sum(axis=1) / total
        return float((share * np.nan_to_num(self.class_iou())).sum())

    def split_miou(self, unseen: list[int]) -> dict[str, float]:
        """Return seen and unseen mean IoU and their harmonic mean, all from this one matrix.

        Args:
          unseen: ids of the unseen classes.

        Source: evaluation of ZegCLIP and CLIP-ZSS; a class that never occurs is left out.
        """
        iou = self.class_iou()
        hidden = np.isin(np.arange(len(iou)), unseen)
        seen, new = mean_of_known(iou[~hidden]), mean_of_known(iou[hidden])
        harmonic = 2 * seen * new / (seen + new) if seen + new else 0.0
        return {"seen": seen, "unseen": new, "harmonic": harmonic}


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
