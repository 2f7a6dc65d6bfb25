"""The metric by hand and against a slow oracle and torchmetrics."""

import numpy as np
import pytest

from zeroseg_jax.evaluation.confusion import Confusion, count_pixels


def test_two_by_two_by_hand():
    confusion = Confusion(2)
    confusion.add(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]]))
    np.testing.assert_allclose(confusion.class_iou(), [1 / 2, 2 / 3])
    assert confusion.miou() == pytest.approx(7 / 12)
    assert confusion.pixel_accuracy() == 0.75


def test_ignored_pixels_do_not_count():
    confusion = Confusion(2)
    confusion.add(np.array([[-1, 0], [-1, 1]]), np.array([[0, 0], [1, 1]]))
    assert confusion.matrix.sum() == 2 and confusion.miou() == 1.0


def test_absent_classes_are_left_out_of_the_mean():
    confusion = Confusion(5)
    confusion.add(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert confusion.miou() == 1.0 and confusion.present() == 1
    confusion.add(np.zeros((1, 1), int), np.full((1, 1), 3))
    assert confusion.present() == 2 and confusion.miou() == pytest.approx((4 / 5 + 0) / 2)


def test_against_a_slow_oracle():
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 6, (7, 9, 11))
    guesses = rng.integers(0, 6, (7, 9, 11))
    truths[rng.random(truths.shape) < 0.1] = -1
    whole = Confusion(6)
    for truth, guess in zip(truths, guesses, strict=True):
        whole.add(truth, guess)
    known = truths != -1
    for c in range(6):
        both = ((truths == c) & (guesses == c) & known).sum()
        either = (((truths == c) | (guesses == c)) & known).sum()
        assert whole.class_iou()[c] == pytest.approx(both / either)


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
        # Cityscapes' labelIds or a border of 255 that nobody mapped: told, never dropped.
        (np.full((2, 2), 255), np.zeros((2, 2), int), "holds 255 .4 pixels are out of range"),
    ],
)
def test_bad_labels_are_named(truth, guess, sentence):
    with pytest.raises(ValueError, match=sentence):
        Confusion(3).add(truth, guess, "cat.jpg")


def draw_maps(classes, seed=0, size=(4, 17, 23)):
    rng = np.random.default_rng(seed)
    truths, guesses = rng.integers(0, classes, (2, *size))
    truths[rng.random(size) < 0.15] = -1
    return truths, guesses


def test_every_ratio_by_hand():
    confusion = Confusion(3)
    confusion.matrix[:] = [[6, 2, 0], [1, 1, 0], [0, 0, 0]]
    assert confusion.pixel_accuracy() == 0.7
    assert confusion.mean_accuracy() == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert confusion.miou() == pytest.approx((6 / 9 + 1 / 4) / 2) and confusion.present() == 2
    assert confusion.miou(absent_as_zero=True) == pytest.approx((6 / 9 + 1 / 4) / 3)
    assert confusion.frequency_weighted_iou() == pytest.approx(0.8 * 6 / 9 + 0.2 / 4)
    split = confusion.split_miou([1, 2])
    assert split["seen"] == pytest.approx(6 / 9) and split["unseen"] == pytest.approx(1 / 4)
    assert split["harmonic"] == pytest.approx(2 * (6 / 9) * (1 / 4) / (6 / 9 + 1 / 4))


def test_against_torchmetrics():
    reason = "an independent metric: pip install torch torchmetrics"
    torch = pytest.importorskip("torch", reason=reason)
    torchmetrics = pytest.importorskip("torchmetrics.classification", reason=reason)
    truths, guesses = draw_maps(5, seed=3)
    confusion = Confusion(5)
    for truth, guess in zip(truths, guesses, strict=True):
        confusion.add(truth, guess)
    options = {"num_classes": 5, "ignore_index": -1}
    pair = torch.from_numpy(guesses), torch.from_numpy(truths)
    matrix = torchmetrics.MulticlassConfusionMatrix(**options)(*pair)
    np.testing.assert_array_equal(confusion.matrix, matrix.numpy())
    iou = torchmetrics.MulticlassJaccardIndex(average="none", **options)(*pair)
    # torchmetrics divides in float32.
    np.testing.assert_allclose(confusion.class_iou(), iou.numpy(), rtol=1e-6)
    accuracy = torchmetrics.MulticlassAccuracy(average="macro", **options)(*pair)
    assert confusion.mean_accuracy() == pytest.approx(float(accuracy), rel=1e-6)


def test_sparse_counts_are_the_matrix():
    truths, guesses = draw_maps(7)
    cells, counts = count_pixels(truths[0], guesses[0], 7)
    dense = np.zeros(49, np.int64)
    dense[cells] = counts
    whole = Confusion(7)
    whole.add(truths[0], guesses[0])
    np.testing.assert_array_equal(dense.reshape(7, 7), whole.matrix)
    assert (counts > 0).all() and (np.diff(cells) > 0).all()
