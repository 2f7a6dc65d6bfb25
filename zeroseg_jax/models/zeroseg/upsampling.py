"""Upsampling of segment maps from patches to pixels along the edges of the image.

Letters: B windows, H, W pixels, h, w patches, S segments.

Source: He, Sun and Tang, "Guided image filtering" (TPAMI 2013), section 3.5 (colour guide), and He
and Sun, "Fast guided filter" (2015): the fit is made at a quarter of the size. That maps of
segments are its input is own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import HeadConfig

Array = jax.Array

_SHRINK = 4  # sides of the image over those of the fit
_LEAST_RADIUS = 1  # pixels of the fit, so that a window has nine


def upsample(maps: Array, images: Array, head: HeadConfig) -> Array:
    """Upsample as head.upsampling says; bilinear maps stay at patches, see scoring.choose_segments.

    Args:
      maps: float32 (B, h, w, S), at patches.
      images: (B, H, W, 3), standardised.
      head: upsampling, upsampling_radius and upsampling_eps are read.
    """
    if head.upsampling == "bilinear":
        return maps
    return upsample_guided(maps, images, radius=head.upsampling_radius, eps=head.upsampling_eps)


def upsample_guided(maps: Array, images: Array, *, radius: float, eps: float) -> Array:
    """Return maps at the pixels that follow the colours of the image.

    In every square window, each map is fitted by a linear function of the colours. A pixel's value
    is the mean of these functions over the windows that hold it. Windows are cut at the border.
    Everything is float32, products on an accelerator too: variances are differences of means.

    Args:
      maps: float32 (B, h, w, S), at patches; bilinear in between.
      images: (B, H, W, 3), standardised.
      radius: half width of a window over the short side of the image.
      eps: ridge on the slopes, in squared units of `images`.

    Returns:
      float32 (B, H, W, S). The sum over S is kept; single values may leave [0, 1].
    """
    images = jnp.moveaxis(images.astype(jnp.float32), -1, 1)
    height, width = images.shape[2:]
    small = (max(1, height // _SHRINK), max(1, width // _SHRINK))
    guide = jax.image.resize(images, (*images.shape[:2], *small), "bilinear", antialias=True)
    target = jnp.moveaxis(maps, -1, 1)
    target = jax.image.resize(target, (*target.shape[:2], *small), "bilinear", antialias=False)
    half = max(_LEAST_RADIUS, round(radius * min(small)))
    down, across = (_window_means(side, half) for side in small)

    # Axes after the batch: colours i and j, segment s, rows, columns.
    means = _apply(down, guide, across)
    centre = _apply(down, target, across)
    covariance = _apply(down, guide[:, :, None] * guide[:, None], across)
    covariance -= means[:, :, None] * means[:, None]
    products = _apply(down, guide[:, :, None] * target[:, None], across)
    products -= means[:, :, None] * centre[:, None]
    slopes = _solve(covariance, eps, products)
    offsets = centre - _follow(slopes, means)

    # Averaging over windows and bilinear enlarging are one product each way.
    down, across = (
        jax.image.resize(jnp.asarray(matrix), (side, len(matrix)), "bilinear", antialias=False)
        for matrix, side in ((down, height), (across, width))
    )
    slopes, offsets = _apply(down, slopes, across), _apply(down, offsets, across)
    return jnp.moveaxis(offsets + _follow(slopes, images), 1, -1)


def _window_means(side: int, half: int) -> np.ndarray:
    """Return float32 (side, side): row i averages the places at most `half` away from i."""
    place = np.arange(side)
    inside = np.abs(place[:, None] - place) <= half
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _apply(down: Array | np.ndarray, x: Array, across: Array | np.ndarray) -> Array:
    """Multiply (H, h) and (W, w) to the rows and columns of (..., h, w): (..., H, W)."""
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("...hw,Ww->...hW", x, across, precision=highest)
    return jnp.einsum("Hh,...hW->...HW", down, rows, precision=highest)


def _follow(slopes: Array, colours: Array) -> Array:
    """Multiply (B, 3, S, h, w) and (B, 3, h, w) and sum over colours: (B, S, h, w)."""
    # Three terms: XLA's reduction over this axis takes twenty times as long on a CPU.
    red, green, blue = (slopes[:, i] * colours[:, i, None] for i in range(3))
    return red + green + blue


def _solve(covariance: Array, eps: float, right: Array) -> Array:
    """Solve (covariance + eps I) slopes = right at each pixel by elimination on whole arrays.

    jnp.linalg.solve would factorise pixel by pixel.

    Args:
      covariance: (B, 3, 3, h, w), positive semidefinite.
      eps: ridge.
      right: (B, 3, S, h, w).
    """
    at = [[covariance[:, i, j, None] + eps * (i == j) for j in range(3)] for i in range(3)]
    # The matrix is L diag(d0, d1, d2) L^T, with ones on the diagonal of L.
    d0 = at[0][0]
    l10, l20 = at[1][0] / d0, at[2][0] / d0
    d1 = at[1][1] - l10 * at[1][0]
    l21 = (at[2][1] - l20 * at[1][0]) / d1
    d2 = at[2][2] - l20 * at[2][0] - l21 * l21 * d1
    y0 = right[:, 0]
    y1 = right[:, 1] - l10 * y0
    y2 = right[:, 2] - l20 * y0 - l21 * y1
    x2 = y2 / d2
    x1 = y1 / d1 - l21 * x2
    x0 = y0 / d0 - l10 * x1 - l20 * x2
    return jnp.stack([x0, x1, x2], axis=1)
