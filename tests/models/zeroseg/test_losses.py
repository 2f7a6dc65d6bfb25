"""The losses by hand and against plain numpy."""

import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import LossConfig
from zeroseg_jax.data.views import grid_windows
from zeroseg_jax.models.zeroseg import losses
from zeroseg_jax.models.zeroseg.student import StudentOutputs

WINDOWS = grid_windows((1, 2), False)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_reconstruction_counts_removed_patches_only():
    predicted = np.zeros((1, 3, 2), np.float32)
    target = np.array([[[1, 1], [2, 2], [9, 9]]], np.float32)
    mask = np.array([[1, 1, 0]], np.float32)
    loss = losses.reconstruction_loss(predicted, target, mask, normalise=False, masked_only=True)
    np.testing.assert_allclose(loss, [(1 + 4) / 2])
    loss = losses.reconstruction_loss(predicted, target, mask, normalise=False, masked_only=False)
    np.testing.assert_allclose(loss, [(1 + 4 + 81) / 3])


def test_reconstruction_normalises_with_the_unbiased_variance():
    target = draw(2, 5, 12)
    mean = target.mean(-1, keepdims=True)
    wanted = (target - mean) / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    mask = np.ones((2, 5), np.float32)
    loss = losses.reconstruction_loss(wanted, target, mask, normalise=True, masked_only=True)
    np.testing.assert_allclose(loss, 0, atol=1e-10)


def test_nothing_removed_falls_back_to_all_patches():
    loss = losses.reconstruction_loss(
        jnp.zeros((1, 2, 3)), jnp.ones((1, 2, 3)), jnp.zeros((1, 2)),
        normalise=False, masked_only=True,
    )  # fmt: skip
    np.testing.assert_allclose(loss, [1.0])


def test_distillation_is_least_at_the_median_view():
    features = draw(1, 5, 3)
    median = np.median(features, axis=1)
    here = losses.distillation_loss(median, features, channels="sum", terms="sum")
    np.testing.assert_allclose(here, np.abs(median[:, None] - features).sum(), rtol=1e-6)
    for step in (0.1, -0.1):
        there = losses.distillation_loss(median + step, features, channels="sum", terms="sum")
        assert (there >= here).all()


def test_matching_by_hand():
    segments = np.array([[[0.0, 0.0], [1.0, 1.0]]], np.float32)
    regions = np.array([[[0.0, 1.0], [3.0, 3.0], [1.0, 1.5]]], np.float32)
    distances = losses.matching_distances(segments, regions, "sum")
    np.testing.assert_allclose(distances[0], [[1, 6, 2.5], [1, 4, 0.5]])
    nearest = losses.matching_loss(distances, mode="nearest", terms="sum")
    np.testing.assert_allclose(nearest, [1.5])
    coverage = losses.matching_loss(distances, mode="coverage", terms="mean")
    np.testing.assert_allclose(coverage, [0.5 * (0.75 + (1 + 4 + 0.5) / 3)])


def test_located_matching_follows_the_largest_overlap():
    distances = draw(2, 3, 4)
    overlaps = draw(2, 3, 4, seed=1)
    loss = losses.matching_loss(distances, mode="located", terms="mean", overlaps=overlaps)
    wanted = [
        np.mean([distances[b, s, max(range(4), key=overlaps[b, s].__getitem__)] for s in range(3)])
        for b in range(2)
    ]
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def test_located_matches_are_the_cells_that_segments_lie_in():
    assignment = np.zeros((1, 3, 16), np.float32)
    grid = np.arange(16).reshape(4, 4)
    for segment, cell in enumerate((grid[:2, :2], grid[2:, 2:], grid[2:, :2])):
        assignment[0, segment, cell.ravel()] = 1
    features = draw(1, 5, 6)
    segments = features[:, [1, 4, 3]]  # views of the 2 x 2 grid in reading order, after the whole
    made = StudentOutputs(
        np.zeros((1, 16, 12)), np.zeros((1, 16)), segments, features[:, 0], assignment, None
    )
    config = LossConfig(reconstruction=0.0, matching_mode="located")
    _, parts = losses.total_loss(made, np.zeros((1, 16, 12)), features, config, windows=WINDOWS)
    np.testing.assert_allclose(parts["loss_matching"], 0, atol=1e-6)
    assert parts["distinct_matches"][0] == 3


def test_segment_cosine_equals_the_mean_over_pairs():
    made, target, features = outputs(), draw(2, 16, 12, seed=8), draw(2, 5, 6, seed=9)
    _, parts = losses.total_loss(made, target, features, LossConfig(), windows=WINDOWS)
    for image, found in zip(made.segments, parts["segment_cosine"], strict=True):
        pairs = [
            image[i] @ image[j] / np.linalg.norm(image[i]) / np.linalg.norm(image[j])
            for i in range(3) for j in range(3) if i != j
        ]  # fmt: skip
        np.testing.assert_allclose(found, np.mean(pairs), atol=1e-5)


def outputs(seed=0):
    return StudentOutputs(
        pixels=draw(2, 16, 12, seed=seed),
        mask=np.repeat([[1.0, 0.0]], 8, axis=0).reshape(1, 16).repeat(2, axis=0),
        segments=draw(2, 3, 6, seed=seed + 1),
        global_feature=draw(2, 6, seed=seed + 2),
        assignment=np.full((2, 3, 16), 1 / 3, np.float32),
        patch_features=None,
    )


def test_total_is_the_weighted_sum_and_faithful_has_three_terms():
    made, target, features = outputs(), draw(2, 16, 12, seed=8), draw(2, 5, 6, seed=9)
    config = LossConfig(reconstruction=2.0, distillation=3.0, matching=0.5)
    loss, parts = losses.total_loss(made, target, features, config, windows=WINDOWS)
    wanted = sum(
        weight * parts[f"loss_{name}"]
        for name, weight in (("reconstruction", 2.0), ("distillation", 3.0), ("matching", 0.5))
    )
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    assert "loss_cell" not in parts
    _, parts = losses.total_loss(made, target, features, LossConfig(cell=1.0), windows=WINDOWS)
    assert "loss_cell" in parts


def test_matching_never_looks_at_the_whole_image():
    made, target, features = outputs(), draw(2, 16, 12, seed=8), draw(2, 5, 6, seed=9)
    _, before = losses.total_loss(made, target, features, LossConfig(), windows=WINDOWS)
    changed = features.copy()
    changed[:, 0] = made.segments[:, 0]
    _, after = losses.total_loss(made, target, changed, LossConfig(), windows=WINDOWS)
    np.testing.assert_array_equal(before["loss_matching"], after["loss_matching"])


def test_diagnostics_count():
    segments = np.array([[[0.0], [0.1], [5.0]]], np.float32)
    features = np.array([[[9.0], [0.0], [5.0], [20.0], [30.0]]], np.float32)
    assignment = np.zeros((1, 3, 16), np.float32)
    assignment[0, 0, :8] = 1
    assignment[0, 2, 8:12] = 1
    made = StudentOutputs(
        jnp.zeros((1, 16, 12)), jnp.zeros((1, 16)), segments, jnp.zeros((1, 1)), assignment, None
    )
    config = LossConfig(normalise_patches=False)
    _, parts = losses.total_loss(made, jnp.zeros((1, 16, 12)), features, config, windows=WINDOWS)
    assert parts["distinct_matches"][0] == 2
    assert parts["segments_used"][0] == 2


def _outputs(views):
    return StudentOutputs(
        pixels=draw(2, 4, 6), mask=np.ones((2, 4), np.float32), segments=draw(2, 3, 5, seed=1),
        global_feature=draw(2, 5, seed=2), assignment=np.full((2, 3, 4), 1 / 3, np.float32),
        patch_features=None,
    ), draw(2, 4, 6, seed=3), draw(2, views, 5, seed=4)  # fmt: skip


def test_z_may_follow_the_whole_image_alone():
    outputs, target, features = _outputs(5)
    for views, followed in (("all", features), ("whole", features[:, :1])):
        config = LossConfig(distil_views=views)
        _, parts = losses.total_loss(outputs, target, features, config, windows=WINDOWS)
        expected = np.abs(outputs.global_feature[:, None] - followed).mean(axis=(1, 2))
        np.testing.assert_allclose(parts["loss_distillation"], expected, rtol=1e-6)


def test_one_view_alone_has_nothing_to_match_and_still_teaches_z():
    outputs, target, features = _outputs(1)
    config = LossConfig(matching=0.0)
    loss, parts = losses.total_loss(
        outputs, target, features, config, windows=grid_windows((1,), False)
    )
    np.testing.assert_allclose(
        loss, parts["loss_reconstruction"] + parts["loss_distillation"], rtol=1e-6
    )
    np.testing.assert_array_equal(parts["distinct_matches"], 1)
