"""Scores that follow the edges of the picture: pixel-adaptive mask refinement (PAMR).

Source: Araslanov and Roth, "Single-stage semantic segmentation from image labels" (CVPR 2020),
section 3.3. Training-free methods report with it or without; a preset says which.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

Array = jax.Array
_SHARPNESS = 0.1  # of the local standard deviation, the authors' value
_STD_EPS = 1e-8


@functools.partial(jax.jit, static_argnames=("dilations", "iterations"))
def refine_scores(
    scores: Array, image: Array, *, dilations: tuple[int, ...], iterations: int
) -> Array:
    """Replace each pixel's scores by a mean over its neighbours, again and again.

    A neighbour counts the more, the nearer its colour is to the pixel's own, measured in the
    standard deviation of the colours around; the weights sum to 1.

    Args:
      scores: float32 (H, W, C).
      image: float32 (H, W, 3), any linear scale.
      dilations: distances in pixels of the rings of 8 neighbours; beyond the border, the
        border repeats.
      iterations: how often.

    Returns:
      float32 (H, W, C); a pixel's sum over C is that of a weighted mean of its neighbours'.
    """
    around = jnp.stack(_neighbours(image, dilations))
    with_itself = jnp.concatenate([around, image[None]])
    spread = _SHARPNESS * with_itself.std(axis=0, ddof=1) + _STD_EPS
    affinity = -(jnp.abs(around - image) / spread).mean(axis=-1, keepdims=True)
    weights = jax.nn.softmax(affinity, axis=0)

    def average(_, current):
        shifted = _neighbours(current, dilations)
        return sum(weight * other for weight, other in zip(weights, shifted, strict=True))

    return jax.lax.fori_loop(0, iterations, average, scores)


def _neighbours(x: Array, dilations: tuple[int, ...]) -> list[Array]:
    """List (H, W, C) arrays, x as seen from each pixel towards 8 directions at each distance."""
    height, width = x.shape[:2]
    shifted = []
    for d in dilations:
        padded = jnp.pad(x, ((d, d), (d, d), (0, 0)), mode="edge")
        for dy in (0, d, 2 * d):
            for dx in (0, d, 2 * d):
                if (dy, dx) != (d, d):
                    shifted.append(padded[dy : dy + height, dx : dx + width])
    return shifted
