"""Attribution of errors by hand and over random maps."""

import numpy as np

from zeroseg_jax.evaluation.attribution import attribute_errors, compare_segments, label_by_majority

TRUTH = np.array([[1, 1, 2, 2], [1, 1, 2, -1], [0, 0, 0, 0]])
SEGMENTS = np.array([[7, 7, 7, 3], [7, 7, 3, 3], [5, 5, 5, 5]])


def test_segments_named_by_truth_and_truth_named_by_the_model():
    assert label_by_majority(SEGMENTS, TRUTH).tolist() == [[1, 1, 1, 2], [1, 1, 2, 2], [0] * 4]
    labels = np.array([[1, 1, 1, 2], [2, 2, 2, 2], [1, 0, 1, 1]])
    # A tie goes to the lower class; the region that is ignored is named too, and never counted.
    found = label_by_majority(TRUTH, labels)
    assert found.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [1] * 4]


def test_nothing_known_is_named_zero():
    assert (label_by_majority(SEGMENTS, np.full((3, 4), -1)) == 0).all()
    assert compare_segments(SEGMENTS, np.full((3, 4), -1))[1].tolist() == [0, 0, 0]


def test_purity_and_completeness():
    # Segment 7 has one pixel of 2, all else is pure; of class 2 one of three pixels is elsewhere.
    assert compare_segments(SEGMENTS, TRUTH)[1].tolist() == [10, 10, 11]
    assert compare_segments(SEGMENTS, TRUTH)[2].tolist() == [3, 4, 5]
    # Every pixel a segment: pure, and in pieces.
    assert compare_segments(np.arange(12).reshape(3, 4), TRUTH)[1].tolist() == [11, 3, 11]
    assert compare_segments(np.zeros((3, 4), int), TRUTH)[1].tolist() == [4, 11, 11]


def test_every_wrong_pixel_has_one_cause():
    named = label_by_majority(SEGMENTS, TRUTH)
    labels = np.array([[2, 1, 1, 0], [1, 1, 1, 1], [0, 2, 0, 0]])
    rim = np.zeros((3, 4), bool)
    causes = attribute_errors(TRUTH, labels, named, rim, has_background=True)
    # (0, 0) and (1, 2) were named wrong, (0, 3) and (2, 1) against background, (0, 2) cut wrong.
    assert causes.tolist() == [2, 2, 0, 1]
    causes = attribute_errors(TRUTH, labels, named, ~rim, has_background=False)
    assert causes.tolist() == [4, 0, 1, 0]
    assert causes.sum() == ((labels != TRUTH) & (TRUTH >= 0)).sum()


def test_random_maps_add_up():
    rng = np.random.default_rng(0)
    truth, labels, segments = rng.integers(0, 4, (3, 30, 40))
    truth[rng.random(truth.shape) < 0.1] = -1
    named, rim = label_by_majority(segments, truth), rng.random(truth.shape) < 0.5
    causes = attribute_errors(truth, labels, named, rim, has_background=True)
    known = truth >= 0
    assert causes.sum() == (labels != truth)[known].sum() and (causes > 0).all()
    pure, complete, total = compare_segments(segments, truth)[1]
    assert total == known.sum() and pure == (named == truth)[known].sum() and complete <= total
