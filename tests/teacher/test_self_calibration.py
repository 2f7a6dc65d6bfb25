"""SC-CLIP and ProxyCLIP against their formulas in NumPy, patch by patch, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_layers import linear, norm, softmax

from zeroseg_jax.teacher import self_calibration as calibration
from zeroseg_jax.teacher.readouts import Affinity, read_out
from zeroseg_jax.teacher.towers import ClipConfig, TowerConfig, VisionTower

CONFIG = ClipConfig(
    vision=TowerConfig(32, 12, 2, 64, "quick_gelu", 1e-5),
    text=None, embed_dim=12, image_px=32, patch_px=4,
)  # fmt: skip
GRIDS = [(8, 8), (4, 5), (9, 6)]  # 8 x 8 is the tower's own; 4 x 5 has less than 30 patches


def build(config, seed=0):
    """Return a tower, its random parameters, large enough that attention is uneven."""
    tower, rng = VisionTower(config), np.random.default_rng(seed)
    shapes = jax.eval_shape(
        lambda key: tower.init(key, jnp.zeros((1, config.image_px, config.image_px, 3)))["params"],
        jax.random.key(0),
    )

    def draw(path, leaf):
        around_one = path[-1].key == "scale"
        return np.float32(0.25 * rng.standard_normal(leaf.shape) + around_one)

    return tower, jax.tree_util.tree_map_with_path(draw, shapes)


def draw_pixels(count, height, width):
    rng = np.random.default_rng(height)
    return rng.normal(size=(count, height, width, 3)).astype(np.float32)


def run_blocks(tower, params, pixels, depth):
    tokens = tower.apply({"params": params}, pixels, depth, method="tokens")
    return np.asarray(tokens, np.float64)


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def table(x):
    return np.array([[cosine(a, b) for b in x] for a in x])


def affinity(similarity, beta, gamma):
    rows = gamma * (similarity - beta * similarity.mean())
    return np.array([softmax(np.where(row >= 0, row, -np.inf)) for row in rows])


def outliers(x):
    """The local outlier factor as its paper defines it (Breunig et al., 2000)."""
    count = len(x)
    k = 30 if count > 30 else (count - 1) // 2
    distance = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    nearest = [sorted((j for j in range(count) if j != i), key=lambda j, i=i: distance[i, j])[:k]
               for i in range(count)]  # fmt: skip
    # SC-CLIP reaches at least as far as the k-th neighbour of the patch itself.
    reach = [[max(distance[i, j], distance[i, nearest[i][-1]]) for j in nearest[i]]
             for i in range(count)]  # fmt: skip
    density = [1 / np.mean(row) for row in reach]
    factor = np.array([np.mean([density[j] for j in nearest[i]]) / density[i]
                       for i in range(count)])  # fmt: skip
    return factor > np.quantile(factor, 0.95)


def fill(x, bad, h, w):
    out = x.copy()
    for i in np.flatnonzero(bad):
        row, column = divmod(i, w)
        near = [r * w + c for r in range(row - 1, row + 2) for c in range(column - 1, column + 2)
                if 0 <= r < h and 0 <= c < w and not bad[r * w + c]]  # fmt: skip
        if near:
            out[i] = np.mean([x[j] for j in near], axis=0)
    return out


def average(x, similarity):
    out = np.zeros_like(x)
    for i, row in enumerate(similarity):
        weights = np.where(row >= 0.4, row, 0)
        out[i] = sum(weight * one for weight, one in zip(weights, x, strict=True))
        out[i] /= weights.sum() + 1e-6
    return out


def attend(block, part, x, similarity):
    normed = norm(x, block["norm1"], part.eps)
    k, v = (linear(normed, block["attention"][name]).reshape(len(x), part.heads, -1)
            for name in ("key", "value"))  # fmt: skip
    shared, mixed = affinity(similarity, 1.0, 3.0), np.zeros_like(v)
    for head in range(part.heads):
        for i in range(len(x)):
            own = softmax(np.array([k[i, head] @ k[j, head] for j in range(len(x))])
                          / np.sqrt(k.shape[-1]))  # fmt: skip
            mixed[i, head] = (shared[i] + own) / 2 @ v[:, head]
    return linear(mixed.reshape(len(x), -1), block["attention"]["out"])


def slow_scclip(tower, params, pixels, blocks):
    part, (h, w) = tower.config.vision, np.array(pixels.shape[1:3]) // tower.config.patch_px
    middle, low, (start, stop), weight = blocks
    outputs = [run_blocks(tower, params, pixels, n)[0] for n in range(1, part.depth)]
    block, last = params[f"blocks_{part.depth - 1}"], outputs[-1]
    bad = outliers(last[1:])
    assert bad.any()
    similarity = table(fill(outputs[middle - 1][1:], bad, h, w))
    low_similarity = table(outputs[low - 1][1:])
    x = average(fill(last[1:], bad, h, w), similarity)
    x = attend(block, part, x, similarity) + weight * last[0]
    levels = sum(outputs[n - 1] for n in range(start, stop + 1))
    more = attend(block, part, levels[1:], similarity) + weight * levels[0]
    x = average(x, low_similarity) + average(more, low_similarity)
    x = linear(norm(x, params["post_norm"], part.eps), params["projection"])
    return x.reshape(h, w, -1)


@pytest.mark.parametrize("grid", GRIDS)
def test_scclip_equals_its_formula_and_a_batch_its_images(grid):
    tower, params = build(CONFIG)
    pixels = draw_pixels(2, 4 * grid[0], 4 * grid[1])
    run = jax.jit(lambda x: read_out(tower, params, x, "scclip"))
    found = np.asarray(run(pixels))
    assert found.shape == (2, *grid, 12)
    for i in range(2):
        wanted = slow_scclip(tower, params, pixels[i : i + 1], (9, 4, (4, 10), 0.3))
        np.testing.assert_allclose(found[i], wanted, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(found[i], run(pixels[i : i + 1])[0], rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_scclip_of_a_deep_tower_reads_other_blocks():
    part = dataclasses.replace(CONFIG.vision, depth=24, width=16)
    tower, params = build(dataclasses.replace(CONFIG, vision=part), seed=1)
    pixels = draw_pixels(1, 20, 24)
    found = np.asarray(read_out(tower, params, pixels, "scclip"))[0]
    wanted = slow_scclip(tower, params, pixels, (17, 7, (9, 19), 0.1))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


def test_blocks_of_other_depths_lie_before_the_last():
    for depth in range(2, 49):
        middle, low, (start, stop), _ = calibration.choose_blocks(depth)
        assert 1 <= low <= middle < depth and 1 <= start <= stop < depth
    assert calibration.choose_blocks(4) == (3, 1, (1, 3), 0.3)
    with pytest.raises(ValueError, match="scclip needs a tower of 2 blocks"):
        calibration.choose_blocks(1)


def test_a_planted_outlier_is_found_and_filled():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(36, 5)).astype(np.float32)
    x[14] += 40
    bad = np.asarray(calibration.find_outliers(jnp.array(x)))
    assert bad[14] and bad.sum() == 2 and (bad == outliers(x.astype(np.float64))).all()
    filled = np.asarray(calibration.fill_outliers(jnp.array(x), jnp.array(bad), (6, 6)))
    np.testing.assert_allclose(filled, fill(x, bad, 6, 6), rtol=1e-5)
    # Without a valid neighbour an outlier stays.
    alone = calibration.fill_outliers(jnp.array(x), jnp.ones(36, bool), (6, 6))
    np.testing.assert_array_equal(alone, x)
    assert not calibration.find_outliers(jnp.ones((20, 5))).any()
    assert not calibration.find_outliers(jnp.ones((1, 5))).any()


def test_no_row_of_an_affinity_is_empty():
    np.testing.assert_allclose(calibration.affinity_weights(jnp.ones((4, 4)), 1.2, 3.0), np.eye(4))


def enlarge(values, rows, columns):
    """Bilinear interpolation at half-pixel centres, sample by sample."""
    h, w, _ = values.shape

    def taps(new, old):
        places = (np.arange(new) + 0.5) * old / new - 0.5
        low = np.floor(places).astype(int)
        return [(max(i, 0), min(i + 1, old - 1), p - i) for i, p in zip(low, places, strict=True)]

    out = np.zeros((rows, columns, values.shape[-1]))
    for r, (top, bottom, a) in enumerate(taps(rows, h)):
        for c, (left, right, b) in enumerate(taps(columns, w)):
            above = (1 - b) * values[top, left] + b * values[top, right]
            below = (1 - b) * values[bottom, left] + b * values[bottom, right]
            out[r, c] = (1 - a) * above + a * below
    return out


def slow_proxy(tower, params, second, second_params, pixels, mean, std):
    """ProxyCLIP of one window whose sides are multiples of both patches."""
    part, lent = tower.config.vision, second.config.vision
    tokens = run_blocks(second, second_params, (pixels - np.float32(mean)) / np.float32(std), None)
    features = norm(tokens[0], second_params["post_norm"], lent.eps)[1:]
    block = params[f"blocks_{part.depth - 1}"]
    tokens = run_blocks(tower, params, pixels, part.depth - 1)[0][1:]
    value = linear(norm(tokens, block["norm1"], part.eps), block["attention"]["value"])
    sides = np.array(pixels.shape[1:3])
    small, grid = sides // tower.config.patch_px, sides // second.config.patch_px
    value = enlarge(value.reshape(*small, -1), *grid).reshape(grid.prod(), -1)
    x = affinity(table(features), 1.2, 3.0) @ value
    x = norm(linear(x, block["attention"]["out"]), params["post_norm"], part.eps)
    return linear(x, params["projection"]).reshape(*grid, -1)


MEAN, STD = (0.02, -0.1, 0.05), (1.1, 0.9, 1.05)


@pytest.fixture(scope="module")
def pair():
    part = dataclasses.replace(CONFIG.vision, depth=3, width=16)
    second = dataclasses.replace(CONFIG, vision=part, image_px=24, patch_px=3)
    return *build(CONFIG), *build(second, seed=5)


@pytest.mark.parametrize("sides", [(24, 24), (12, 36), (36, 24)])
def test_proxy_equals_its_formula_and_a_batch_its_windows(pair, sides):
    tower, params, second, second_params = pair
    lent = Affinity(second_params, second, MEAN, STD)
    pixels = draw_pixels(2, *sides)
    run = jax.jit(lambda x: read_out(tower, params, x, "proxy", lent))
    found = np.asarray(run(pixels))
    assert found.shape == (2, sides[0] // 3, sides[1] // 3, 12)
    for i in range(2):
        one = pixels[i : i + 1]
        wanted = slow_proxy(tower, params, second, second_params, one, MEAN, STD)
        np.testing.assert_allclose(found[i], wanted, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(found[i], run(one)[0], rtol=1e-4, atol=2e-5)


def test_proxy_pads_to_both_patches_and_cuts_the_padding(pair):
    tower, params, second, second_params = pair
    pixels = draw_pixels(1, 27, 21)  # 36 x 24: 9 and 3 px more; 3 of the 9 px are above
    padded = np.pad(pixels, ((0, 0), (3, 6), (0, 3), (0, 0)))
    wanted = slow_proxy(tower, params, second, second_params, padded, MEAN, STD)[1:10, :7]
    lent = Affinity(second_params, second, MEAN, STD)
    found = np.asarray(read_out(tower, params, pixels, "proxy", lent))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


def test_pairs_that_do_not_fit_are_refused(pair):
    tower, params, second, second_params = pair
    lent = Affinity(second_params, second, MEAN, STD)
    for sides, readout, affinity, sentence in (
        ((24, 25), "proxy", lent, "24 x 25 px are no multiples of the affinity tower's patch of 3"),
        ((24, 24), "proxy", None, "proxy needs an affinity tower"),
        ((24, 24), "scclip", lent, "scclip reads one tower"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_out(tower, params, draw_pixels(1, *sides), readout, affinity)
