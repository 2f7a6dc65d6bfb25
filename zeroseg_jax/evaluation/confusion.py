"""The metric: an int64 confusion matrix over all pixels of all images, then ratios."""

from __future__ import annotations

import numpy as np

IGNORE = 255


class Confusion:
    """Counts of (true class, predicted class); `matrix` int64 (C, C), rows are truth."""

    def __init__(self, classes: int):
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray, name: str = "image") -> None:
        """Count the pixels of one image; truth 255 is ignored.

        Raises:
          ValueError: sizes differ, or a label out of range; names the image.
        """
        if truth.shape != prediction.shape:
            raise ValueError(
                f"{name}: the mask is {truth.shape} but the prediction {prediction.shape}."
            )
        classes = len(self.matrix)
        known = truth != IGNORE
        truth, prediction = truth[known].astype(np.int64), prediction[known].astype(np.int64)
        for kind, values in (("mask", truth), ("prediction", prediction)):
            if values.size and not 0 <= values.min() <= values.max() < classes:
                raise ValueError(
                    f"{name}: the {kind} holds {values.min()}..{values.max()}, but classes are "
                    f"0..{classes - 1} (and {IGNORE} for ignored)."
                )
        counts = np.bincount(truth * classes + prediction, minlength=classes * classes)
        self.matrix += counts.reshape(classes, classes)

    def merge(self, other: Confusion) -> None:
        """Add the counts of another shard."""
        self.matrix += other.matrix

    def class_iou(self) -> np.ndarray:
        """Return float64 (C,): intersection over union, NaN for a class that never occurs."""
        hit = np.diag(self.matrix).astype(np.float64)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - hit
        return np.where(union > 0, hit / np.maximum(union, 1), np.nan)

    def miou(self) -> float:
        """Return the mean IoU over the classes that occur in truth or prediction."""
        iou = self.class_iou()
        return float(np.nanmean(iou)) if not np.isnan(iou).all() else float("nan")

    def split_miou(self, unseen: list[int]) -> dict[str, float]:
        """Return the means over seen and unseen classes of this one matrix, and their harmonic.

        Args:
          unseen: ids.

        Returns:
          seen, unseen, harmonic, each in [0, 1]; the harmonic mean is 0 where both are.
        """
        iou = self.class_iou()
        hidden = np.isin(np.arange(len(iou)), unseen)
        seen, new = (float(np.nanmean(iou[rows])) for rows in (~hidden, hidden))
        harmonic = 2 * seen * new / (seen + new) if seen + new else 0.0
        return {"seen": seen, "unseen": new, "harmonic": harmonic}

    def present(self) -> int:
        """Return how many classes the mean is over."""
        return int((~np.isnan(self.class_iou())).sum())

    def pixel_accuracy(self) -> float:
        """Return the share of pixels whose class is right."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")


def name_by_truth(segments: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give each segment its commonest true class: the upper bound that naming can reach.

    Args:
      segments: int (H, W).
      truth: int (H, W), 255 ignored.

    Returns:
      int32 (H, W).

    Source: own (oracle naming).
    """
    named = np.zeros(truth.shape, np.int32)
    for segment in np.unique(segments):
        inside = segments == segment
        labels = truth[inside & (truth != IGNORE)]
        if labels.size:
            named[inside] = np.bincount(labels).argmax()
    return named


def count_segments(segments: np.ndarray, least: float = 0.01) -> int:
    """Return how many segments cover more than `least` of the pixels."""
    counts = np.unique(segments, return_counts=True)[1]
    return int((counts > least * segments.size).sum())
