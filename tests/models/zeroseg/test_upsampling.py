"""Guided upsampling of segment maps against a slow version written from the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.models.zeroseg import upsampling

upsample_guided = jax.jit(upsampling.upsample_guided, static_argnames=("radius", "eps"))


def _resize(x, height, width, antialias):
    return np.asarray(
        jax.image.resize(jnp.asarray(x), (height, width, x.shape[-1]), "bilinear", antialias)
    )


def _slow(maps, image, radius, eps):
    """He et al., equations (19) to (21), window by window at a quarter of the size, in float64."""
    height, width, _ = image.shape
    h, w = height // 4, width // 4
    guide = _resize(image, h, w, True).astype(np.float64)
    target = _resize(maps, h, w, False).astype(np.float64)
    half = max(1, round(radius * min(h, w)))

    def window(y, x):
        return np.s_[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]

    slopes, offsets = np.zeros((h, w, 3, maps.shape[-1])), np.zeros((h, w, maps.shape[-1]))
    for y in range(h):
        for x in range(w):
            colours = guide[window(y, x)].reshape(-1, 3)
            values = target[window(y, x)].reshape(-1, maps.shape[-1])
            covariance = np.cov(colours.T, bias=True) + eps * np.eye(3)
            crossed = (colours.T @ values) / len(colours)
            crossed -= np.outer(colours.mean(0), values.mean(0))
            slopes[y, x] = np.linalg.solve(covariance, crossed)
            offsets[y, x] = values.mean(0) - colours.mean(0) @ slopes[y, x]
    mean_slopes, mean_offsets = np.zeros_like(slopes), np.zeros_like(offsets)
    for y in range(h):
        for x in range(w):
            mean_slopes[y, x] = slopes[window(y, x)].mean((0, 1))
            mean_offsets[y, x] = offsets[window(y, x)].mean((0, 1))
    shape = (height, width, 3, maps.shape[-1])
    mean_slopes = _resize(mean_slopes.reshape(h, w, -1), height, width, False).reshape(shape)
    mean_offsets = _resize(mean_offsets, height, width, False)
    return mean_offsets + np.einsum("hwcs,hwc->hws", mean_slopes, image)


@pytest.mark.parametrize("shape, radius", [((32, 32), 0.2), ((32, 48), 0.34), ((48, 32), 0.05)])
def test_equals_the_papers_equations(shape, radius):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(*shape, 3)).astype(np.float32)
    maps = rng.dirichlet(np.ones(3), size=(shape[0] // 8, shape[1] // 8)).astype(np.float32)
    found = upsample_guided(maps[None], image[None], radius=radius, eps=1e-2)[0]
    assert found.shape == (*shape, 3)
    # Variances are differences of float32 means, and slopes divide by at least eps.
    np.testing.assert_allclose(found, _slow(maps, image, radius, 1e-2), atol=2e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=2e-5)


def test_without_colours_only_the_windows_average():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, :, 0, 0] = maps[0, :, 1, 1] = 1
    found = upsample_guided(maps, np.zeros((1, 16, 16, 3), np.float32), radius=1, eps=1e-2)
    np.testing.assert_allclose(found, 0.5, atol=1e-6)


def test_an_edge_inside_a_patch_is_found():
    # A disc of another colour, whose map is known at patches of 8 px only.
    place = np.mgrid[:48, :48] + 0.5
    disc = np.hypot(*(place - 24)) < 13
    image = np.where(disc[..., None], [1.0, -1.0, 0.0], [-1.0, 0.5, 0.0]).astype(np.float32)
    share = disc.reshape(6, 8, 6, 8).mean(axis=(1, 3))
    maps = np.stack([share, 1 - share], axis=-1).astype(np.float32)[None]
    found = np.asarray(upsample_guided(maps, image[None], radius=0.2, eps=1e-2))[0]
    bilinear = _resize(maps[0], 48, 48, False)
    wrong = [(x.argmax(axis=-1) != ~disc).mean() for x in (found, bilinear)]
    assert wrong[0] < 0.01 < 0.03 < wrong[1]
