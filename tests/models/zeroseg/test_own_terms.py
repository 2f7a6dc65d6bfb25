"""Own terms by hand: cell, patch, inside and dense losses, clustered grouping, region read-out."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.building import draw_params
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.data.views import grid_windows
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.models.zeroseg.own_terms import (
    cell_loss,
    cell_weights,
    cluster_patches,
    dense_loss,
    inside_loss,
    overlap_regions,
    patch_loss,
    subtract_context,
)
from zeroseg_jax.teacher.load import load_teacher

SETTINGS = {"level": 0.7, "temperature": 0.05, "iterations": 5}
WINDOWS = grid_windows((1, 2), False)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mean_l1(x, y):
    return jnp.abs(x - y).mean(axis=-1)


def blobs(*directions, each=6, noise=0.05):
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(8, dtype=np.float32)[list(directions)], each, axis=0)
    return rows + noise * rng.normal(size=rows.shape).astype(np.float32)


def test_every_blob_is_a_segment_and_the_rest_stays_empty():
    features = np.stack([blobs(0, 1, 2), blobs(3, 3, 5)])
    assignment = np.asarray(cluster_patches(features, 5, **SETTINGS))
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)
    for image, groups in ((0, [range(6), range(6, 12), range(12, 18)]), (1, [range(12)])):
        winners = assignment[image].argmax(axis=0)
        for group in groups:
            assert len(set(winners[list(group)])) == 1
    assert [(a.sum(axis=1) > 0).sum() for a in assignment] == [3, 2]


def test_more_blobs_than_segments_still_covers_every_patch():
    assignment = cluster_patches(blobs(0, 1, 2, 3)[None], 2, **SETTINGS)
    np.testing.assert_allclose(assignment.sum(axis=1), 1, rtol=1e-5)


def test_scale_of_features_and_order_of_patches_change_nothing():
    features = blobs(0, 1, 4)[None]
    order = np.random.default_rng(1).permutation(18)
    one = np.asarray(cluster_patches(features, 4, **SETTINGS))
    two = np.asarray(cluster_patches(7 * features[:, order], 4, **SETTINGS))
    np.testing.assert_allclose(one[..., order], two, atol=1e-4)


def test_overlap_is_intersection_over_union_of_what_is_visible():
    assignment = np.abs(draw(2, 3, 16))
    visible = np.random.default_rng(3).random((2, 1, 16)) < 0.7
    assignment = np.where(visible, assignment / assignment.sum(axis=1, keepdims=True), 0)
    assignment = assignment.astype(np.float32)
    found = overlap_regions(assignment, cell_weights(4, WINDOWS))
    for image in range(2):
        for segment in range(3):
            for view, (top, left, bottom, right) in enumerate(WINDOWS):
                both = area = cell = 0.0
                for row in range(4):
                    for column in range(4):
                        patch = 4 * row + column
                        inside = top * 4 <= row < bottom * 4 and left * 4 <= column < right * 4
                        both += inside * assignment[image, segment, patch]
                        area += assignment[image, segment, patch]
                        cell += inside * visible[image, 0, patch]
                wanted = both / (area + cell - both)
                np.testing.assert_allclose(found[image, segment, view], wanted, rtol=1e-5)


def playground(**head):
    model = {
        "image_px": 48,
        "embed_dim": 128,
        "mask_ratio": 0.25,
        "encoder": {"width": 128, "depth": 4, "heads": 2, "patch_px": 8, "init": "teacher",
                    "activation": "quick_gelu", "norm_eps": 1e-5, "pre_norm": True,
                    "positions": "learned"},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "head": {"width": 16, "heads": 2, "z_hidden": 16, **head},
    }  # fmt: skip
    return from_mapping({"model": model}).model


@functools.partial(jax.jit, static_argnums=0)
def train(student, params, images):
    return students.apply_train(student, params, images, key=jax.random.key(1))


segment = jax.jit(students.apply_segment, static_argnums=0)


@pytest.mark.parametrize("grouping", [pytest.param("learned", marks=pytest.mark.slow), "clustered"])
def test_one_region_of_everything_reads_out_what_the_teacher_says(grouping):
    clip = load_teacher("playground")
    model = playground(region_readout=True, grouping=grouping, all_levels=True)
    student = students.build_student(model)
    params = draw_params(student)
    params = students.init_from_teacher(params, clip.vision_params, model)
    pixels = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)

    def read(module, images, assignment):
        _, inputs = module.encoder(images)
        return module.region_projection(module.encoder.read_regions(inputs, assignment))

    @jax.jit
    def read_out(params, images, assignment):
        return student.apply({"params": params}, images, assignment, method=read)

    everything = np.zeros((2, 3, 36), np.float32)
    everything[:, 0] = 1
    everything[:, 1, :18] = everything[:, 2, 18:] = 1
    regions = read_out(params, pixels, everything)
    wanted = clip.encode_images(pixels)
    np.testing.assert_allclose(regions[:, 0], wanted, atol=2e-4)  # features are about 2
    assert np.abs(regions[:, 1] - wanted).max() > 0.1


def test_clustered_student_segments_and_trains():
    model = playground(region_readout=True, grouping="clustered", all_levels=True)
    student = students.build_student(model)
    params = draw_params(student)
    params = students.set_feature_mean(params, jnp.ones(128))
    assert params["head"]["feature_mean"][0] == params["region_projection"]["bias"][0] == 1
    images = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    outputs = train(student, params, images)
    seen = 1 - np.asarray(outputs.mask)
    np.testing.assert_allclose(outputs.assignment.sum(axis=1), seen, atol=1e-5)
    assert (np.asarray(outputs.patch_features)[seen == 0] == 0).all()
    assert np.isfinite(outputs.segments).all()
    maps = segment(student, params, images).maps
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)


def test_settings_of_test_time_change_segments_and_maps_and_not_the_training():
    model = playground(region_readout=True, grouping="clustered", all_levels=True)
    head = dataclasses.replace(
        model.head, cluster_segments=11, upsampling="guided", context_share=0.5
    )
    changed = dataclasses.replace(model, head=head)
    images = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)
    params = draw_params(students.build_student(model))
    trained, found = [], []
    for each in (model, changed):
        student = students.build_student(each)
        trained.append(train(student, params, images))
        found.append(segment(student, params, images))
    chex.assert_trees_all_equal(*trained)
    assert found[0].segments.shape[1] == found[0].maps.shape[3] == 8
    assert found[0].maps.shape[:3] == (2, 6, 6)
    assert found[1].segments.shape[1] == 11 and found[1].maps.shape == (2, 48, 48, 11)
    np.testing.assert_allclose(found[1].maps.sum(axis=-1), 1, atol=1e-4)
    lengths = np.linalg.norm(found[1].segments, axis=-1)  # 1 less a part of the context
    assert (lengths < 1).all() and (lengths > 0.4).all()


def test_the_context_is_the_mean_segment_by_area():
    """Against loops in numpy; what is alone in its image keeps its direction."""
    rng = np.random.default_rng(0)
    segments = rng.normal(size=(2, 3, 5)).astype(np.float32)
    assignment = rng.uniform(size=(2, 3, 7)).astype(np.float32)
    assignment[1] = [[1] * 7, [0] * 7, [0] * 7]
    assignment /= assignment.sum(axis=1, keepdims=True)
    found = subtract_context(segments, assignment, 0.2)
    for image in range(2):
        units = [row / np.linalg.norm(row) for row in segments[image]]
        shares = assignment[image].sum(axis=1) / 7
        context = sum(share * unit for share, unit in zip(shares, units, strict=True))
        for row, unit in zip(found[image], units, strict=True):
            np.testing.assert_allclose(row, unit - 0.2 * context, atol=1e-6)
    np.testing.assert_allclose(found[1, 0], 0.8 * segments[1, 0] / np.linalg.norm(segments[1, 0]),
                               atol=1e-6)  # fmt: skip
    assert subtract_context(segments, assignment, 0.0) is segments


def test_clusters_at_test_time_need_clusters():
    with pytest.raises(ConfigError, match="model.head.cluster_segments: needs model.head.grouping"):
        from_mapping({"model": {"head": {"cluster_segments": 12}}})


def test_patch_term_needs_clustered_grouping():
    with pytest.raises(ConfigError, match="loss.patch: needs model.head.grouping=clustered"):
        from_mapping({"loss": {"patch": 1.0}})
    config = from_mapping({"loss": {"patch": 1.0}, "model": {"head": {"grouping": "clustered"}}})
    assert dataclasses.asdict(config)["loss"]["patch"] == 1.0


@pytest.mark.parametrize("side", [4, 14])
def test_cell_weights_cover_every_patch_once_a_grid(side):
    weights = cell_weights(side, grid_windows((1, 2, 3), False))
    assert weights.shape == (14, side * side)
    for start, count in ((0, 1), (1, 4), (5, 9)):
        np.testing.assert_allclose(weights[start : start + count].sum(axis=0), 1, rtol=1e-6)
        np.testing.assert_allclose(
            weights[start : start + count].sum(axis=1), side * side / count, rtol=1e-5
        )


def test_cell_loss_is_zero_where_the_mixture_is_the_cells_feature():
    """Two halves, each its own segment: the four cells of a 2 x 2 grid know which they see."""
    weights = cell_weights(2, WINDOWS)
    segments = draw(1, 2, 4)
    assignment = np.array([[[1, 0, 1, 0], [0, 1, 0, 1]]], np.float32)
    left, right = segments[0]
    features = np.stack([(left + right) / 2, left, right, left, right])[None]
    loss = cell_loss(segments, assignment, features, weights, mean_l1)
    np.testing.assert_allclose(loss, 0, atol=1e-7)
    moved = cell_loss(segments, assignment[:, ::-1], features, weights, mean_l1)
    assert moved[0] > 0.1


def test_cells_without_visible_patches_are_left_out():
    weights = cell_weights(2, WINDOWS)
    segments = np.ones((1, 1, 3), np.float32)
    assignment = np.array([[[1, 0, 0, 0]]], np.float32)
    features = np.full((1, 5, 3), 100.0, np.float32)
    features[:, :2] = 1.0
    loss = cell_loss(segments, assignment, features, weights, mean_l1)
    np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_cell_weights_sum_to_the_area():
    area = cell_weights(5, grid_windows((1, 2, 3, 4), True)).sum(axis=1)
    np.testing.assert_allclose(area[[0, 1, 10, 35]], [25, 25 / 4, 25 / 9, 25 / 16], rtol=1e-6)


def test_patches_alone_meet_their_cells():
    weights = cell_weights(2, WINDOWS)
    patches = draw(1, 4, 6)
    features = np.concatenate([patches.mean(1, keepdims=True), patches], axis=1)
    visible = np.ones((1, 4), np.float32)
    loss = patch_loss(patches, visible, features, weights, mean_l1)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    visible[0, 3] = 0  # the last cell has no patch left, the whole view has three
    features[0, 0] = patches[0, :3].mean(0)
    features[0, 4] += 9
    loss = patch_loss(patches, visible, features, weights, mean_l1)
    np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_inside_takes_the_view_that_shows_the_segment_whole_and_large():
    weights = cell_weights(4, WINDOWS)
    assignment = np.zeros((1, 2, 16), np.float32)
    assignment[0, 0, [0, 1, 4, 5]] = 1  # the upper left quarter
    assignment[0, 1] = 1 - assignment[0, 0]  # the rest: in no cell, most of the whole image
    segments, features = np.zeros((1, 2, 3), np.float32), np.zeros((1, 5, 3), np.float32)
    features[0, 1] = 1.0
    features[0, 0] = 3.0
    features[0, 2:] = 100.0
    # The quarter: its own cell (1 * 1) and the whole image (1 * 1, it fills a quarter of it).
    # The rest: the whole image.
    loss = inside_loss(segments, assignment, features, weights, mean_l1)
    np.testing.assert_allclose(loss, [(1 + 3 + 3) / 3], rtol=1e-6)
    empty = np.zeros_like(assignment)
    empty[0, 0] = 1 / 16
    loss = inside_loss(segments, empty, features, weights, mean_l1)
    np.testing.assert_allclose(loss, [0.0])


def test_dense_equals_loops_over_visible_patches():
    patches, targets = draw(3, 5, 6), draw(3, 5, 6, seed=1)
    visible = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)
    expected = []
    for image in range(3):
        apart = []
        for p in np.flatnonzero(visible[image]):
            a, b = patches[image, p].astype(np.float64), targets[image, p].astype(np.float64)
            apart.append(1 - a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
        expected.append(np.mean(apart) if apart else 0.0)
    loss = dense_loss(patches, visible, targets)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    half = dense_loss(patches.astype(jnp.bfloat16), visible, targets.astype(np.float16))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, expected, atol=0.01)


def test_dense_ignores_lengths_and_what_removed_patches_hold():
    patches, visible = draw(2, 5, 6), np.array([[1, 0, 1, 1, 0]] * 2, np.float32)
    np.testing.assert_allclose(dense_loss(patches, visible, 30 * patches), 0, atol=1e-5)
    np.testing.assert_allclose(dense_loss(patches, visible, -patches), 2, rtol=1e-5)
    changed = np.where(visible[..., None] > 0, patches, 7)
    targets = draw(2, 5, 6, seed=1)
    np.testing.assert_array_equal(
        dense_loss(changed, visible, targets), dense_loss(patches, visible, targets)
    )
