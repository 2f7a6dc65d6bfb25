"""The metric: an int64 confusion matrix over all pixels of all images, then ratios."""

from __future__ import annotations

import numpy as np

IGNORE = -1
_IMAGENET_S_EPS = 1e-10


def count_pixels(
    truth: np.ndarray, prediction: np.ndarray, classes: int, name: str = "image"
) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of one image by (true class, predicted class).

    Args:
      truth: int (H, W), classes from 0; IGNORE does not count.
      prediction: int (H, W), classes from 0.
      classes: C.
      name: of the image, for errors.

    Returns:
      int64 (n,) cells, true class * C + predicted class, ascending; and int64 (n,) counts.

    Raises:
      ValueError: sizes differ, or a label out of range; names the image.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f"{name}: the mask is {_say_size(truth)} but the prediction {_say_size(prediction)}; "
            "both must have the size of the image."
        )
    known = truth != IGNORE
    truth, prediction = truth[known].astype(np.int64), prediction[known].astype(np.int64)
    for kind, values in (("mask", truth), ("prediction", prediction)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            wrong = values[(values < 0) | (values >= classes)]
            raise ValueError(
                f"{name}: the {kind} holds {wrong[0]} ({wrong.size} pixels are out of range), but "
                f"classes are 0..{classes - 1}, and {IGNORE} in a mask is ignored; look at the "
                "encoding of its labels."
            )
    counts = np.bincount(truth * classes + prediction, minlength=1)
    cells = np.flatnonzero(counts)
    return cells, counts[cells]


def _say_size(labels: np.ndarray) -> str:
    return " x ".join(str(side) for side in labels.shape[::-1]) + " px"


class Confusion:
    """Counts of (true class, predicted class); `matrix` int64 (C, C), rows are truth."""

    def __init__(self, classes: int):
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, name: str = "image") -> None:
        """Count the pixels of one image; see count_pixels."""
        self.add_counts(*count_pixels(truth, prediction, len(self.matrix), name))

    def add_counts(self, cells: np.ndarray, counts: np.ndarray) -> None:
        """Add what count_pixels returned; no cell may stand twice."""
        self.matrix.reshape(-1)[cells] += counts

    def merge(self, other: Confusion) -> None:
        """Add the counts of another shard."""
        self.matrix += other.matrix

    def class_iou(self) -> np.ndarray:
        """Return float64 (C,): intersection over union, NaN for a class that never occurs."""
        hit = np.diag(self.matrix).astype(np.float64)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
        return np.where(union > 0, hit / np.maximum(union, 1), np.nan)

    def miou(self, *, absent_as_zero: bool = False) -> float:
        """Return the mean IoU.

        Args:
          absent_as_zero: over all classes, one that never occurs counting 0 (ImageNet-S's own
            mean); else over the classes that occur in truth or prediction.
        """
        if absent_as_zero:
            hit = np.diag(self.matrix).astype(np.float64)
            union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
            return float((hit / (union + _IMAGENET_S_EPS)).mean())
        return mean_of_known(self.class_iou())

    def present(self) -> int:
        """Return how many classes occur in truth or prediction."""
        return int((~np.isnan(self.class_iou())).sum())

    def class_accuracy(self) -> np.ndarray:
        """Return float64 (C,): the share of a class's pixels found, NaN where it has none."""
        truth = self.matrix.sum(axis=1)
        return np.where(truth > 0, np.diag(self.matrix) / np.maximum(truth, 1), np.nan)

    def mean_accuracy(self) -> float:
        """Return the mean of class_accuracy over the classes that occur in truth."""
        return mean_of_known(self.class_accuracy())

    def pixel_accuracy(self) -> float:
        """Return the share of pixels whose class is right."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")

    def frequency_weighted_iou(self) -> float:
        """Return the IoU of classes weighted by their share of the true pixels."""
        total = self.matrix.sum()
        if not total:
            return float("nan")
        share = self.matrix.sum(axis=1) / total
        return float((share * np.nan_to_num(self.class_iou())).sum())

    def split_miou(self, unseen: list[int]) -> dict[str, float]:
        """Return the means over seen and unseen classes of this one matrix, and their harmonic.

        Args:
          unseen: ids.

        Source: ZegCLIP's and CLIP-ZSS's evaluation; a class that never occurs is left out.
        """
        iou = self.class_iou()
        hidden = np.isin(np.arange(len(iou)), unseen)
        seen, new = mean_of_known(iou[~hidden]), mean_of_known(iou[hidden])
        harmonic = 2 * seen * new / (seen + new) if seen + new else 0.0
        return {"seen": seen, "unseen": new, "harmonic": harmonic}


def mean_of_known(values: np.ndarray) -> float:
    """Return the mean over what is not NaN; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def count_segments(segments: np.ndarray, least: float = 0.01) -> int:
    """Return how many segments cover more than `least` of the pixels."""
    counts = np.unique(segments, return_counts=True)[1]
    return int((counts > least * segments.size).sum())
