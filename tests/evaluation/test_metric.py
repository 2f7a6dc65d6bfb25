"""The metric by hand, against a slow oracle, and over shards."""

import numpy as np
import pytest

from zeroseg_jax.evaluation.confusion import Confusion, count_segments, name_by_truth


def test_two_by_two_by_hand():
    confusion = Confusion(2)
    confusion.add(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]]))
    np.testing.assert_allclose(confusion.class_iou(), [1 / 2, 2 / 3])
    assert confusion.miou() == pytest.approx(7 / 12)
    assert confusion.pixel_accuracy() == 0.75


def test_ignored_pixels_do_not_count():
    confusion = Confusion(2)
    confusion.add(np.array([[255, 0], [255, 1]]), np.array([[0, 0], [1, 1]]))
    assert confusion.matrix.sum() == 2 and confusion.miou() == 1.0


def test_absent_classes_are_left_out_of_the_mean():
    confusion = Confusion(5)
    confusion.add(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert confusion.miou() == 1.0 and confusion.present() == 1
    confusion.add(np.zeros((1, 1), int), np.full((1, 1), 3))
    assert confusion.present() == 2 and confusion.miou() == pytest.approx((4 / 5 + 0) / 2)


def test_against_a_slow_oracle_and_over_shards():
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 6, (7, 9, 11))
    guesses = rng.integers(0, 6, (7, 9, 11))
    truths[rng.random(truths.shape) < 0.1] = 255
    whole, shards = Confusion(6), [Confusion(6), Confusion(6)]
    for i, (truth, guess) in enumerate(zip(truths, guesses, strict=True)):
        whole.add(truth, guess)
        shards[i % 2].add(truth, guess)
    known = truths != 255
    for c in range(6):
        both = ((truths == c) & (guesses == c) & known).sum()
        either = (((truths == c) | (guesses == c)) & known).sum()
        assert whole.class_iou()[c] == pytest.approx(both / either)
    shards[0].merge(shards[1])
    np.testing.assert_array_equal(shards[0].matrix, whole.matrix)


def test_counts_do_not_overflow():
    confusion = Confusion(2)
    confusion.matrix[:] = 2**40
    confusion.add(np.zeros((1, 1), int), np.zeros((1, 1), int))
    assert confusion.matrix[0, 0] == 2**40 + 1


@pytest.mark.parametrize(
    ("truth", "guess", "sentence"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "cat.jpg: the mask is"),
        (np.full((2, 2), 9), np.zeros((2, 2), int), "cat.jpg: the mask holds 9"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "cat.jpg: the prediction holds -1"),
    ],
)
def test_bad_labels_are_named(truth, guess, sentence):
    with pytest.raises(ValueError, match=sentence):
        Confusion(3).add(truth, guess, "cat.jpg")


def test_oracle_naming_and_used_segments():
    segments = np.array([[0, 0, 1, 1]])
    truth = np.array([[4, 4, 4, 2]])
    assert name_by_truth(segments, truth)[0, 0] == 4
    assert count_segments(segments) == 2
    assert count_segments(np.zeros((20, 20), int)) == 1
