"""K-means, fusion and fused maps, against slow references and by hand."""

import dataclasses

import numpy as np
import pytest

from zeroseg_jax.config import RegionsConfig
from zeroseg_jax.teacher import clustering as regions
from zeroseg_jax.teacher.clustering import find_regions


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def slow_kmeans(tokens, seeds, iterations):
    """Every centroid again in every iteration, in float64."""
    tokens, centroids = tokens.astype(np.float64), unit(seeds.astype(np.float64))
    assignment = (tokens @ centroids.T).argmax(axis=1)
    for _ in range(iterations):
        for k in range(len(centroids)):
            if (assignment == k).any():
                centroids[k] = unit(tokens[assignment == k].sum(axis=0))
        assignment = (tokens @ centroids.T).argmax(axis=1)
    return assignment, centroids


def slow_seeds(tokens, free, sides):
    h, w = free.shape
    found = []
    for side in sides:
        for top in range(0, h - side + 1, max(side // 2, 1)):
            for left in range(0, w - side + 1, max(side // 2, 1)):
                area = np.s_[top : top + side, left : left + side]
                if free[area].any():
                    found.append((tokens[area] * free[area][..., None]).sum((0, 1)) / side**2)
    return np.array(found)


@pytest.mark.parametrize("iterations", [0, 1, 3, 50])
def test_kmeans_equals_the_slow_one(iterations):
    rng = np.random.default_rng(iterations)
    tokens = unit(rng.normal(size=(300, 12))).astype(np.float32)
    seeds = rng.normal(size=(17, 12)).astype(np.float32)
    assignment, centroids = regions.cluster_tokens(tokens, seeds, iterations)
    wanted, means = slow_kmeans(tokens, seeds, iterations)
    np.testing.assert_array_equal(assignment, wanted)
    np.testing.assert_allclose(centroids, means, atol=1e-6)


def test_kmeans_does_not_move_after_convergence():
    rng = np.random.default_rng(0)
    tokens = unit(rng.normal(size=(200, 8))).astype(np.float32)
    _, centroids = regions.cluster_tokens(tokens, tokens[:6], 100)
    again, _ = regions.cluster_tokens(tokens, centroids, 1)
    np.testing.assert_array_equal(again, (tokens @ centroids.T).argmax(axis=1))


@pytest.mark.parametrize(("grid", "sides"), [((16, 16), (4, 8)), ((12, 8), (3, 5)), ((7, 9), (1,))])
def test_seeds_equal_the_slow_ones(grid, sides):
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(*grid, 5)).astype(np.float32)
    free = rng.random(grid) < 0.3
    free[: grid[0] // 2] = False
    found = regions.average_windows(tokens.reshape(-1, 5), free, sides)
    np.testing.assert_allclose(found, slow_seeds(tokens, free, sides), atol=1e-6)


def test_fusion_by_hand():
    angles = np.deg2rad([0, 10, 22, 90, 95, 180])
    centroids = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sizes = np.array([5, 9, 3, 4, 4, 0])
    # The largest, at 10, takes 0 and 22; then 90, the first of two equal ones, takes 95.
    fused = regions.fuse_clusters(centroids, sizes, np.cos(np.deg2rad(15)))
    assert fused.tolist() == [1, 1, 1, 3, 3, 5]
    assert regions.fuse_clusters(centroids, sizes, 0.999).tolist() == [0, 1, 2, 3, 4, 5]
    # A chain does not become one region: 22 takes 10, and 0 is not alike to 22.
    chain = regions.fuse_clusters(centroids[:3], np.array([1, 2, 30]), np.cos(np.deg2rad(13)))
    assert chain.tolist() == [0, 2, 2]
    # Empty clusters neither take nor are taken.
    alone = regions.fuse_clusters(centroids[:2], np.array([0, 3]), 0.5)
    assert alone.tolist() == [0, 1]


def three_things():
    """A 12 x 12 grid: the left half annotated, two things on the right."""
    rng = np.random.default_rng(3)
    directions = unit(rng.normal(size=(3, 16)))
    truth = np.zeros((12, 12), int)
    truth[:6, 6:], truth[6:, 6:] = 1, 2
    tokens = directions[truth] + 0.05 * rng.normal(size=(12, 12, 16))
    return tokens.astype(np.float32), truth


SMALL = RegionsConfig(seed_windows=(3, 6), merge_cosine=0.8)


def test_regions_are_the_things_nobody_annotated():
    tokens, truth = three_things()
    found = find_regions(tokens, truth > 0, SMALL)
    assert found.count == 2 and found.overflow == 0
    assert (found.ids[truth == 0] == regions.NONE).all()
    for thing in (1, 2):
        assert len(set(found.ids[truth == thing].tolist())) == 1
    assert set(found.ids[truth > 0].tolist()) == {0, 1}


def test_annotated_tokens_do_not_matter():
    tokens, truth = three_things()
    other = np.where((truth > 0)[..., None], tokens, 100 * np.random.default_rng(0).normal(size=16))
    first, second = (find_regions(t.astype(np.float32), truth > 0, SMALL) for t in (tokens, other))
    np.testing.assert_array_equal(first.ids, second.ids)


def test_edges_of_the_input():
    tokens, truth = three_things()
    nothing = find_regions(tokens, np.zeros_like(truth, bool), SMALL)
    assert nothing.count == 0 and (nothing.ids == regions.NONE).all()
    one = np.zeros_like(truth, bool)
    one[7, 7] = True
    few = find_regions(tokens, one, RegionsConfig(seed_windows=(3, 6), min_share=0.0))
    assert few.seeds > 1 and few.count == 1 and few.ids[7, 7] == 0
    assert find_regions(tokens, one, SMALL).dropped_tokens == 1
    with pytest.raises(ValueError, match="seed_windows: 13 tokens do not fit .* 12 x 12"):
        find_regions(tokens, truth > 0, RegionsConfig(seed_windows=(13,)))
    tokens[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="non-finite"):
        find_regions(tokens, truth > 0, SMALL)


def test_too_many_regions_are_merged_and_counted():
    rng = np.random.default_rng(5)
    tokens = rng.normal(size=(12, 12, 16)).astype(np.float32)
    settings = RegionsConfig(seed_windows=(3,), merge_cosine=0.99, min_share=0.0, max_regions=5)
    found = find_regions(tokens, np.ones((12, 12), bool), settings)
    free = find_regions(
        tokens, np.ones((12, 12), bool), dataclasses.replace(settings, max_regions=99)
    )
    assert found.count == 5 and found.overflow == free.count - 5 > 0
    assert set(np.unique(found.ids)) == set(range(5))
    # Merging joins whole regions.
    for k in range(free.count):
        assert len(set(found.ids[free.ids == k].tolist())) == 1


def test_free_tokens_and_fused_labels():
    labels = np.full((4, 6), -1, np.int16)
    labels[:, :3] = 2
    free = regions.free_tokens(labels, 2, 2)
    assert free.tolist() == [[False, True], [False, True]]
    assert regions.free_tokens(labels, 2, 3).tolist() == [[False, True, True]] * 2
    ids = np.array([[-1, 0], [-1, 1]], np.int16)
    fused = regions.fuse_labels(labels, ids, 7)
    assert fused[:, :3].tolist() == [[2, 2, 2]] * 4
    assert fused[:, 3:].tolist() == [[7, 7, 7]] * 2 + [[8, 8, 8]] * 2
    # A hole takes the nearest region; no region at all leaves nothing.
    labels[0, 0] = -1
    assert regions.fuse_labels(labels, ids, 7)[0, 0] == 7
    nothing = regions.fuse_labels(labels, np.full((2, 2), -1, np.int16), 7)
    assert nothing[0, 0] == -1 and nothing[0, 1] == 2
