"""Guided refinement against a slow fit of every window; odd patches."""

import numpy as np
import pytest
from scipy import ndimage

from zeroseg_jax.inference import guided

RADIUS, EPS = 1 / 12, 1e-3
FILTER = {"radius": RADIUS, "eps": EPS}


@pytest.fixture
def scene():
    """A dark disc on bright noisy ground, and scores on a grid sixteen times as coarse."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:320, :400]
    inside = (y - 150) ** 2 + (x - 210) ** 2 < 90**2
    image = np.where(inside[..., None], (60, 40, 30), (190, 200, 180)) + rng.normal(0, 8, (1,))
    image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    coarse = inside.reshape(20, 16, 25, 16).mean(axis=(1, 3)).astype(np.float32)
    scores = np.stack([1 - coarse, coarse], axis=-1) * 0.6 + 0.2
    return image, inside, scores + rng.normal(0, 0.03, scores.shape).astype(np.float32)


def enlarge(scores, height, width):
    zoom = (height / scores.shape[0], width / scores.shape[1], 1)
    return ndimage.zoom(scores, zoom, order=1, mode="nearest", grid_mode=True)


def test_solve_fits_every_window_as_the_paper_writes_it():
    rng = np.random.default_rng(1)
    guide = rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    scores = rng.random((9, 11, 2)).astype(np.float32)
    radius, eps = 2, 1e-2
    # Equations 9 to 11 (colour: 14, 15), window by window, in float64.
    colours = np.pad(guide / 255.0, ((radius,) * 2, (radius,) * 2, (0, 0)), mode="symmetric")
    targets = np.pad(scores.astype(float), ((radius,) * 2, (radius,) * 2, (0, 0)), mode="symmetric")
    slopes, offsets = np.zeros((9, 11, 3, 2)), np.zeros((9, 11, 2))
    for y in range(9):
        for x in range(11):
            window = np.s_[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
            c, t = colours[window].reshape(-1, 3), targets[window].reshape(-1, 2)
            covariance = np.cov(c.T, bias=True) + eps * np.eye(3)
            crossed = (c - c.mean(0)).T @ t / len(c)
            slopes[y, x] = np.linalg.solve(covariance, crossed)
            offsets[y, x] = t.mean(0) - c.mean(0) @ slopes[y, x]
    wide = ((radius,) * 2, (radius,) * 2)
    padded = np.pad(slopes, (*wide, (0, 0), (0, 0)), mode="symmetric")
    lifted = np.pad(offsets, (*wide, (0, 0)), mode="symmetric")
    size = 2 * radius + 1
    mean_slopes = np.array(
        [[padded[y : y + size, x : x + size].mean((0, 1)) for x in range(11)] for y in range(9)]
    )
    mean_offsets = np.array(
        [[lifted[y : y + size, x : x + size].mean((0, 1)) for x in range(11)] for y in range(9)]
    )
    found_slopes, found_offsets = guided.solve(guide, scores, radius, eps)
    # float32 covariances of colours lose three digits to cancellation.
    np.testing.assert_allclose(found_slopes, mean_slopes, atol=2e-4)
    np.testing.assert_allclose(found_offsets, mean_offsets, atol=2e-4)


def test_labels_follow_the_edge_that_the_grid_misses(scene):
    image, inside, scores = scene
    small = enlarge(scores, *guided.guide_size(*image.shape[:2]))
    labels, best = guided.GuidedScores(image, small, RADIUS, EPS).label()
    bilinear = enlarge(scores, *image.shape[:2]).argmax(-1)
    wrong, before = (labels != inside).mean(), (bilinear != inside).mean()
    assert wrong < 0.4 * before, (wrong, before)
    assert best.min() >= 0 and best.max() <= 1 and best[150, 210] > 0.6


def test_single_pixels_equal_stripes(scene):
    image, _, scores = scene
    found = guided.GuidedScores(
        image, enlarge(scores, *guided.guide_size(*image.shape[:2])), RADIUS, EPS
    )
    whole = np.concatenate([values for _, values in found.stripes()], axis=1)
    rng = np.random.default_rng(2)
    rows, columns = rng.integers(0, 320, 50), rng.integers(0, 400, 50)
    classes = rng.integers(0, 2, 50)
    np.testing.assert_allclose(
        found.at(rows, columns, classes), whole[classes, rows, columns], atol=1e-5
    )


def test_odd_patches_follow_their_neighbours():
    scores = np.zeros((6, 7, 3), np.float32)
    scores[..., 0] = 0.6
    scores[3:, 4:, 1] = 0.9  # a corner of its own stays
    scores[1, 2, 2] = 5.0  # one odd token
    flipped = guided.flip_odd_patches(scores)
    labels = flipped.argmax(-1)
    assert labels[1, 2] == 0 and (labels[3:, 4:] == 1).all()
    changed = (flipped != scores).any(-1)
    assert changed.sum() == 1 and scores[1, 2, 2] == 5.0


def test_an_image_smaller_than_the_guide_and_one_pixel():
    for height, width in ((1, 1), (3, 200), (5, 4)):
        size = guided.guide_size(height, width)
        scores = np.random.default_rng(3).random((*size, 2)).astype(np.float32)
        image = np.zeros((height, width, 3), np.uint8)
        labels, best = guided.GuidedScores(image, scores, RADIUS, EPS).label()
        assert labels.shape == best.shape == (height, width)


def test_probabilities_of_classes_win_as_in_a_plain_computation(scene):
    """Softmax over all rows, a class by its best row; only classes that win are filtered."""
    image, inside, scores = scene
    weak = np.full((*scores.shape[:2], 3), 0.1, np.float32)
    patches = np.concatenate([scores, scores[..., 1:] - 0.01, weak], axis=-1)
    ids = np.array([4, 0, 0, 1, 2, 3])
    labels, best = guided.label_patches(patches, image, ids, **FILTER, softmax_scale=20.0)
    assert set(np.unique(labels)) == {0, 4}
    e = np.exp(20 * enlarge(patches, *guided.guide_size(*image.shape[:2])).astype(np.float64))
    e /= e.sum(axis=-1, keepdims=True)
    two = np.stack([e[..., 1:3].max(-1), e[..., 0]], axis=-1).astype(np.float32)
    wanted, probability = guided.GuidedScores(image, two, RADIUS, EPS).label()
    assert (np.where(wanted == 1, 4, 0) == labels).mean() > 0.999
    np.testing.assert_allclose(best, probability, atol=1e-3)
    assert ((labels == 0) != inside).mean() < 0.02
    # Rows that may not win still take their share of the probability.
    allowed = np.array([True, False, True, True, True, True])
    same, less = guided.label_patches(
        patches, image, ids, **FILTER, softmax_scale=20.0, allowed=allowed
    )
    assert (same == labels).mean() > 0.97 and less[150, 210] < best[150, 210]
    sure = guided.label_patches(patches, image, ids, **FILTER, softmax_scale=20.0, threshold=0.6)[0]
    assert set(np.unique(sure)) == {0, 4} and (sure == 4).sum() <= (labels == 4).sum()


def test_a_thousand_rows_need_no_more_than_those_that_win(scene):
    image, _, scores = scene
    rng = np.random.default_rng(4)
    many = rng.uniform(0, 0.1, (*scores.shape[:2], 1000)).astype(np.float32)
    many[..., [3, 999]] = scores
    labels, _ = guided.label_patches(many, image, np.arange(1000), **FILTER, softmax_scale=30.0)
    alone, _ = guided.label_patches(scores, image, np.array([3, 999]), **FILTER, softmax_scale=30.0)
    assert (labels == alone).mean() > 0.999
