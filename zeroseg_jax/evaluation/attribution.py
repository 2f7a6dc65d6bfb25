"""Where a score is lost: in cutting the picture, in naming the pieces, or at their rims.

Two bounds, the truth's names for the model's segments and the model's names for the truth's
segments, and a cause for every wrong pixel. Source: own.
"""

from __future__ import annotations

import numpy as np

from zeroseg_jax.evaluation.confusion import IGNORE

CAUSES = ("naming", "background", "boundaries", "grouping")


def name_by_truth(segments: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give each segment its commonest true class: the bound that naming can reach.

    Args:
      segments: int (H, W).
      truth: int (H, W), IGNORE ignored.

    Returns:
      int32 (H, W).
    """
    return judge_cut(segments, truth)[0]


def judge_cut(segments: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hold a cut against the truth: what name_by_truth returns, and counts of pixels.

    Returns:
      int32 (H, W), from name_by_truth.
      int64 (3,): pixels in their segment's commonest class (purity, over the last), pixels in
      their class's largest segment (completeness, over the last), and pixels whose truth is known.
      int64 (S,): pixels of each segment, whatever their truth.
    """
    ids, owners = np.unique(segments, return_inverse=True)
    owners = owners.reshape(segments.shape)
    known = truth != IGNORE
    classes = int(truth.max()) + 1 if known.any() else 1
    flat = owners[known].astype(np.int64) * classes + truth[known]
    counts = np.bincount(flat, minlength=len(ids) * classes).reshape(len(ids), classes)
    named = counts.argmax(axis=1).astype(np.int32)[owners]
    good = np.array([counts.max(axis=1).sum(), counts.max(axis=0).sum(), counts.sum()])
    return named, good, np.bincount(owners.ravel())


def attribute_errors(
    truth: np.ndarray,
    labels: np.ndarray,
    named: np.ndarray,
    rim: np.ndarray,
    *,
    has_background: bool,
) -> np.ndarray:
    """Count wrong pixels by cause.

    A pixel whose segment is mostly of its class was named wrong: "background" where one of the
    two names is background, else "naming". A pixel whose segment is mostly of another class was
    cut wrong: "boundaries" near the true outline, else "grouping".

    Args:
      truth: int (H, W), IGNORE ignored.
      labels: int (H, W), the model's.
      named: int (H, W), from name_by_truth.
      rim: bool (H, W), pixels near the outline of their true class, see boundary.band.
      has_background: whether class 0 is background.

    Returns:
      int64 (4,), in the order of CAUSES; they sum to the wrong pixels.
    """
    wrong = (truth != IGNORE) & (labels != truth)
    cut = named != truth
    behind = has_background & ((truth == 0) | (labels == 0))
    masks = (~cut & ~behind, ~cut & behind, cut & rim, cut & ~rim)
    return np.array([int((wrong & mask).sum()) for mask in masks])
