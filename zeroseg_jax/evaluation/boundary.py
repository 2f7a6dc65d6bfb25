"""Boundary IoU: is the outline right, and not only the inside.

Cheng et al., "Boundary IoU" (CVPR 2021): of truth and of prediction only the pixels within d of
their own outline count, d being 2 % of the image's diagonal. Distances are those of eroding d
times by 3 x 3 (chessboard), and the image's border is outline, as in the authors' evaluation.
Here intersections and unions are summed over the whole set for each class, as mIoU's are.
"""

from __future__ import annotations

import numpy as np

from zeroseg_jax.evaluation.confusion import IGNORE, mean_of_known

_SHARE_OF_DIAGONAL = 0.02


def band(labels: np.ndarray, distance_px: int) -> np.ndarray:
    """Tell which pixels lie within a distance of the outline of their own class.

    Args:
      labels: int (H, W).
      distance_px: d, at least 1.

    Returns:
      bool (H, W): another label, or the outside of the image, is d steps away or less.
    """
    d = distance_px
    height, width = labels.shape
    near = np.ones((height, width), bool)
    if height > 2 * d and width > 2 * d:
        down = np.zeros((height, width), np.int32)
        down[1:] = labels[1:] != labels[:-1]
        across = np.zeros((height, width), np.int32)
        across[:, 1:] = labels[:, 1:] != labels[:, :-1]
        # Where no two neighbours differ inside the square around a pixel, it is all one class.
        # A change is stored at the second of two pixels, so the square's first line is left out.
        changes = _box(down[1:], 2 * d, 2 * d + 1) + _box(across[:, 1:], 2 * d + 1, 2 * d)
        near[d : height - d, d : width - d] = changes > 0
    return near


def _box(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum int (H, W) over every window that fits: (H - height + 1, W - width + 1)."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int32)
    np.cumsum(values, axis=0, out=table[1:, 1:])
    np.cumsum(table, axis=1, out=table)
    rows = table[height:] - table[:-height]
    return rows[:, width:] - rows[:, :-width]


class BoundaryIou:
    """Sums of intersections and unions of bands, int64 (C,) each."""

    def __init__(self, classes: int):
        self.intersection = np.zeros(classes, np.int64)
        self.union = np.zeros(classes, np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Count one image: int (H, W) both; pixels whose truth is IGNORE do not count.

        What is ignored is outside every class, so it has an outline too.

        Returns:
          bool (H, W), the band of the truth.
        """
        classes = len(self.union)
        distance = max(1, int(round(_SHARE_OF_DIAGONAL * np.hypot(*truth.shape))))
        known = truth != IGNORE
        there = known & band(truth, distance)
        here = known & band(prediction, distance)
        true, guessed = truth[there], prediction[here]
        both = truth[there & here & (truth == prediction)]
        hit = np.bincount(both, minlength=classes)
        self.intersection += hit
        self.union += np.bincount(true, minlength=classes) + (
            np.bincount(guessed, minlength=classes) - hit
        )
        return there

    def merge(self, other: BoundaryIou) -> None:
        """Add the counts of another shard."""
        self.intersection += other.intersection
        self.union += other.union

    def class_iou(self) -> np.ndarray:
        """Return float64 (C,), NaN for a class that never occurs."""
        ratio = self.intersection / np.maximum(self.union, 1)
        return np.where(self.union > 0, ratio, np.nan)

    def miou(self) -> float:
        """Return the mean over the classes that occur."""
        return mean_of_known(self.class_iou())
