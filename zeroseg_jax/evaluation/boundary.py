"""Boundary IoU: IoU restricted to bands along the outlines of truth and prediction.

Source: Cheng et al., "Boundary IoU" (CVPR 2021). The band of a map holds the pixels within d of
their own class's outline, d being 2 % of the image diagonal. Distance is that of d erosions by
3 x 3 (chessboard), and the image border counts as outline, as in the authors' code. Intersections
and unions are summed over the whole benchmark for each class, as for mIoU.
"""

from __future__ import annotations

import numpy as np

from zeroseg_jax.evaluation.confusion import IGNORE, mean_of_known

_SHARE_OF_DIAGONAL = 0.02


def band(labels: np.ndarray, distance_px: int) -> np.ndarray:
    """Mark the pixels within a distance of the outline of their own class.

    Args:
      labels: int (H, W).
      distance_px: distance d, at least 1.

    Returns:
      bool (H, W): another label or the outside of the image is at most d steps away.
    """
    d = distance_px
    height, width = labels.shape
    near = np.ones((height, width), bool)
    if height > 2 * d and width > 2 * d:
        down = np.zeros((height, width), np.int32)
        down[1:] = labels[1:] != labels[:-1]
        across = np.zeros((height, width), np.int32)
        across[:, 1:] = labels[:, 1:] != labels[:, :-1]
        # A square without two different neighbours is all one class. A change is stored at the
        # second of the two pixels, so the first line of each square is left out.
        changes = _box_sum(down[1:], 2 * d, 2 * d + 1) + _box_sum(across[:, 1:], 2 * d + 1, 2 * d)
        near[d : height - d, d : width - d] = changes > 0
    return near


def _box_sum(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum int (H, W) over every window that fits: (H - height + 1, W - width + 1)."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int32)
    np.cumsum(values, axis=0, out=table[1:, 1:])
    np.cumsum(table, axis=1, out=table)
    rows = table[height:] - table[:-height]
    return rows[:, width:] - rows[:, :-width]


class BoundaryIou:
    """Sums of boundary IoU over images.

    Attributes:
      intersection: int64 (C,) pixels in both bands with the right class.
      union: int64 (C,) pixels in either band.
    """

    def __init__(self, classes: int):
        self.intersection = np.zeros(classes, np.int64)
        self.union = np.zeros(classes, np.int64)

    def add(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Count one image.

        Args:
          truth: int (H, W); pixels with IGNORE are not counted, and their region has an outline.
          prediction: int (H, W).

        Returns:
          bool (H, W), the band of the truth.
        """
        classes = len(self.union)
        distance = max(1, int(round(_SHARE_OF_DIAGONAL * np.hypot(*truth.shape))))
        known = truth != IGNORE
        true_band = known & band(truth, distance)
        predicted_band = known & band(prediction, distance)
        both = truth[true_band & predicted_band & (truth == prediction)]
        hit = np.bincount(both, minlength=classes)
        self.intersection += hit
        self.union += np.bincount(truth[true_band], minlength=classes) + (
            np.bincount(prediction[predicted_band], minlength=classes) - hit
        )
        return true_band

    def merge(self, other: BoundaryIou) -> None:
        """Add the sums of other images."""
        self.intersection += other.intersection
        self.union += other.union

    def class_iou(self) -> np.ndarray:
        """Return float64 (C,); NaN for a class that never occurs."""
        ratio = self.intersection / np.maximum(self.union, 1)
        return np.where(self.union > 0, ratio, np.nan)

    def miou(self) -> float:
        """Return the mean over the classes that occur; NaN if there are none."""
        return mean_of_known(self.class_iou())
