"""Metrics beside mIoU: masks without their names, and names by their similarity.

Mask mIoU, after the mask-wise protocol of "Revisit the open nature of open vocabulary semantic
segmentation" (ICLR 2025): in each image the true and the predicted masks, one a class, are matched
one to one so that the sum of their IoU is highest. The metric is the mean IoU of all true masks, 0
without a partner. `renamed` is the share of matched masks under another name.

Open mIoU, after "Rethinking evaluation metrics of open-vocabulary segmentation" (TPAMI 2025): a
pixel of class i that is predicted as j counts as right with weight S_ij, the similarity of the two
names. IoU of i: TP_i / (TP_i + FN_i + FP_i), where TP_i = sum_j S_ij n_ij, FN_i = sum_j (1 - S_ij)
n_ij and FP_i = sum over j other than i of (1 - S_ji) n_ji. S (own) is the cosine of the embedded
names, shifted and scaled so that the mean of other names is 0 and the same name 1, at least 0. It
depends on the text tower, so the metric compares runs of one CLIP alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from zeroseg_jax.evaluation.confusion import mean_of_known
from zeroseg_jax.inference.scoring import ClassVectors


def match_masks(cells: np.ndarray, counts: np.ndarray, classes: int) -> np.ndarray:
    """Match the true and predicted masks of one image.

    Args:
      cells, counts: result of confusion.count_pixels.
      classes: number of classes.

    Returns:
      float64 (4,): sum of the IoU of true masks, number of true masks, number of matched masks
      (IoU over 0), number of those under another name.
    """
    truth, predicted = np.divmod(cells, classes)
    true_ids, rows = np.unique(truth, return_inverse=True)
    predicted_ids, columns = np.unique(predicted, return_inverse=True)
    both = np.zeros((len(true_ids), len(predicted_ids)))
    both[rows, columns] = counts
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    iou = both / np.maximum(union, 1)
    i, j = linear_sum_assignment(-iou)
    matched = iou[i, j] > 0
    renamed = matched & (true_ids[i] != predicted_ids[j])
    return np.array([iou[i, j].sum(), len(true_ids), matched.sum(), renamed.sum()], np.float64)


def name_similarity(vectors: np.ndarray) -> np.ndarray:
    """Return the similarity S of class names.

    Args:
      vectors: float32 (C, E), unit rows.

    Returns:
      float64 (C, C) in [0, 1], 1 on the diagonal.
    """
    cosines = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    other = ~np.eye(len(cosines), dtype=bool)
    mean = cosines[other].mean() if len(cosines) > 1 else 0.0
    similarity = np.clip((cosines - mean) / max(1 - mean, 1e-6), 0, 1)
    np.fill_diagonal(similarity, 1)
    return similarity


def compare_names(classes: ClassVectors | None, benchmark: Any) -> np.ndarray | None:
    """Return name_similarity of a benchmark's classes.

    The vector of a class is the mean of its names', that of the background the mean of its own. A
    background without a name is similar to no class.

    Args:
      classes: class vectors of the run; None for another tool's predictions.
      benchmark: any object with class_names and has_background.

    Returns:
      float64 (C, C), or None without class vectors.
    """
    if classes is None:
        return None
    ids = np.asarray(classes.class_ids) + int(benchmark.has_background)
    ids[len(ids) - classes.background :] = 0
    rows = np.asarray(classes.vectors)
    vectors = np.zeros((len(benchmark.class_names), rows.shape[1]), np.float32)
    np.add.at(vectors, ids, rows[: len(ids)])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    named = norms[:, 0] > 0
    similarity = np.eye(len(vectors))
    similarity[np.ix_(named, named)] = name_similarity(vectors[named] / norms[named])
    return similarity


def open_miou(matrix: np.ndarray, similarity: np.ndarray) -> float:
    """Return open mIoU.

    Args:
      matrix: int64 (C, C) pixel counts; rows are true classes.
      similarity: float64 (C, C).

    Returns:
      The mean over the classes that occur in truth or prediction; NaN if there are none.
    """
    right = (similarity * matrix).sum(axis=1)
    wrong = (1 - similarity) * matrix
    total = right + wrong.sum(axis=1) + wrong.sum(axis=0) - np.diag(wrong)
    occurs = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    return mean_of_known(np.where(occurs & (total > 0), right / np.maximum(total, 1e-12), np.nan))
