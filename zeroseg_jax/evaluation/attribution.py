"""Attribution of errors: bounds by majority vote, purity, and a cause for every wrong pixel.

Two bounds of the score: the segments with their commonest true classes, and the true regions with
their commonest predicted classes. Source: own.
"""

from __future__ import annotations

import numpy as np

from zeroseg_jax.evaluation.confusion import IGNORE

CAUSES = ("naming", "background", "boundaries", "grouping")


def label_by_majority(segments: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give each segment its commonest true class.

    Args:
      segments: int (H, W), any ids.
      truth: int (H, W); pixels with IGNORE have no vote.

    Returns:
      int32 (H, W); ties go to the lower class, a segment without a vote gets class 0.
    """
    return compare_segments(segments, truth)[0]


def compare_segments(
    segments: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare segments with the true regions.

    Args:
      segments: int (H, W), any ids.
      truth: int (H, W); pixels with IGNORE are not counted, except in the last result.

    Returns:
      int32 (H, W), the result of label_by_majority.
      int64 (3,) pixel counts: pixels in the commonest class of their segment (purity after
      division by the third), pixels in the largest segment of their class (completeness after
      the same division), and all pixels with a known class.
      int64 (S,) area of each segment in pixels.
    """
    ids, segment_ids = np.unique(segments, return_inverse=True)
    segment_ids = segment_ids.reshape(segments.shape)
    known = truth != IGNORE
    classes = int(truth.max()) + 1 if known.any() else 1
    flat = segment_ids[known].astype(np.int64) * classes + truth[known]
    counts = np.bincount(flat, minlength=len(ids) * classes).reshape(len(ids), classes)
    majority = counts.argmax(axis=1).astype(np.int32)[segment_ids]
    agreement = np.array([counts.max(axis=1).sum(), counts.max(axis=0).sum(), counts.sum()])
    return majority, agreement, np.bincount(segment_ids.ravel())


def attribute_errors(
    truth: np.ndarray,
    labels: np.ndarray,
    majority: np.ndarray,
    true_band: np.ndarray,
    *,
    has_background: bool,
) -> np.ndarray:
    """Count wrong pixels by cause.

    If most of a pixel's segment has the pixel's true class, the segment got the wrong class name:
    "background" if one of the two classes is background, else "naming". Otherwise the segment is
    wrong: "boundaries" near the true outline, else "grouping".

    Args:
      truth: int (H, W); pixels with IGNORE are not counted.
      labels: int (H, W), predicted classes.
      majority: int (H, W), the result of label_by_majority.
      true_band: bool (H, W), pixels near the outline of their true class; see boundary.band.
      has_background: True if class 0 is background.

    Returns:
      int64 (4,) in the order of CAUSES; the sum is the number of wrong pixels.
    """
    wrong = (truth != IGNORE) & (labels != truth)
    bad_segment = majority != truth
    background = has_background & ((truth == 0) | (labels == 0))
    masks = (
        ~bad_segment & ~background,
        ~bad_segment & background,
        bad_segment & true_band,
        bad_segment & ~true_band,
    )
    return np.array([int((wrong & mask).sum()) for mask in masks])
