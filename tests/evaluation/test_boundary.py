"""Boundary IoU against erosion and by hand."""

import numpy as np
import pytest

from zeroseg_jax.evaluation.boundary import BoundaryIou, band
from zeroseg_jax.evaluation.confusion import Confusion


def band_slowly(labels, d):
    """A class's mask minus itself eroded d times by 3 x 3, zeros around, as published."""
    near = np.zeros(labels.shape, bool)
    for c in np.unique(labels):
        mask = kept = np.pad(labels == c, 1)
        for _ in range(d):
            padded = np.pad(kept, 1)
            shifts = [
                padded[y : y + kept.shape[0], x : x + kept.shape[1]]
                for y in range(3)
                for x in range(3)
            ]
            kept = np.logical_and.reduce(shifts)
            kept[[0, -1]] = kept[:, [0, -1]] = False
        near |= (mask & ~kept)[1:-1, 1:-1]
    return near


@pytest.mark.parametrize("distance", [1, 2, 5, 9])
def test_bands_equal_erosion(distance):
    rng = np.random.default_rng(distance)
    labels = rng.integers(0, 3, (5, 7)).repeat(6, axis=0).repeat(5, axis=1)
    np.testing.assert_array_equal(band(labels, distance), band_slowly(labels, distance))


def test_boundary_iou_sees_the_outline_only():
    truth = np.zeros((100, 100), int)
    truth[20:80, 20:80] = 1
    wide = np.zeros((100, 100), int)
    wide[17:83, 17:83] = 1
    scores = {}
    for name, guess in (("same", truth), ("wide", wide)):
        boundary, confusion = BoundaryIou(2), Confusion(2)
        boundary.add(truth, guess)
        confusion.add(truth, guess)
        scores[name] = boundary.class_iou()[1], confusion.class_iou()[1]
    assert scores["same"] == (1, 1)
    assert scores["wide"][1] > 0.8 and scores["wide"][0] < 0.1  # d is 3 px: no overlap at all
    ignored = np.where(truth == 1, -1, truth)
    boundary = BoundaryIou(2)
    boundary.add(ignored, truth)
    assert boundary.union[1] == 0
