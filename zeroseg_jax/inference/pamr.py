"""Pixel-adaptive mask refinement (PAMR): scores follow the edges of the image.

Source: Araslanov and Roth, "Single-stage semantic segmentation from image labels" (CVPR 2020),
section 3.3; published with 10 iterations at distances 1, 2, 4, 8, 12 and 24. Training-free
methods report scores with and without it; the preset decides.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.teacher.programs import Program

Array = jax.Array
CHANNELS_AT_ONCE = 8
_SHARPNESS = 0.1  # factor of the local standard deviation, the authors' value
_STD_EPS = 1e-8


def refine_part(
    scores: np.ndarray,
    weights: Array,
    size: tuple[int, int],
    *,
    dilations: tuple[int, ...],
    iterations: int,
) -> np.ndarray:
    """Refine up to CHANNELS_AT_ONCE channels: float32 (H, W, C) as refine_scores does.

    Channels are independent, so zero padding changes nothing, and one number of channels compiles
    once.
    """
    count = scores.shape[-1]
    padded = np.pad(scores, ((0, 0), (0, 0), (0, CHANNELS_AT_ONCE - count)))
    refined = refine_scores(
        padded, weights, np.array(size, np.int32), dilations=dilations, iterations=iterations
    )
    return np.asarray(refined)[..., :count]


@functools.partial(Program, static=("dilations", "iterations"))
def refine_scores(
    scores: Array, weights: Array, size: Array, *, dilations: tuple[int, ...], iterations: int
) -> Array:
    """Replace each pixel's scores by a weighted mean over its neighbours, iteratively.

    Channels are independent: they can be refined a few at a time with the same weights.

    Args:
      scores: float32 (H, W, C).
      weights: weights of the image, from weigh_neighbours with the same dilations.
      size: int32 (2,), rows and columns of the image itself; those after them are padding. Other
        values do not compile again.
      dilations: distances in pixels of the rings of 8 neighbours; the border is repeated.
      iterations: number of iterations.

    Returns:
      float32 (H, W, C).
    """

    height, width = scores.shape[:2]
    rows = jnp.minimum(jnp.arange(height), size[0] - 1)
    columns = jnp.minimum(jnp.arange(width), size[1] - 1)

    def average(_, current):
        # The image's own border is repeated into the padding.
        shifted = _neighbours(current[rows][:, columns], dilations)
        return sum(weights[i] * other for i, other in enumerate(shifted))

    return jax.lax.fori_loop(0, iterations, average, scores)


@functools.partial(Program, static=("dilations",))
def weigh_neighbours(image: Array, *, dilations: tuple[int, ...]) -> Array:
    """Compute the weight of each neighbour of each pixel.

    A neighbour weighs more the closer its colour is, in units of the local standard deviation: that
    of all neighbours and, once for each distance, the pixel itself, as in the authors' code.

    Args:
      image: float32 (H, W, 3), any linear scale.
      dilations: distances, see refine_scores.

    Returns:
      float32 (8 * distances, H, W, 1), summing to 1 over the neighbours.
    """
    # Centred at the pixel itself, so that sums of squares lose no digits in bright images.
    differences = [other - image for other in _neighbours(image, dilations)]
    # Each ring of 3 x 3 pixels holds the centre, whose difference to itself is 0.
    count = len(differences) + len(dilations)
    mean = sum(differences) / count
    square = sum(jnp.square(d - mean) for d in differences) + len(dilations) * jnp.square(mean)
    spread = _SHARPNESS * jnp.sqrt(square / (count - 1)) + _STD_EPS
    affinity = [-(jnp.abs(d) / spread).mean(axis=-1, keepdims=True) for d in differences]
    return jax.nn.softmax(jnp.stack(affinity), axis=0)


def _neighbours(x: Array, dilations: tuple[int, ...]) -> list[Array]:
    """List x shifted in 8 directions at each distance, (H, W, C) each."""
    height, width = x.shape[:2]
    shifted = []
    for d in dilations:
        padded = jnp.pad(x, ((d, d), (d, d), (0, 0)), mode="edge")
        for dy in (0, d, 2 * d):
            for dx in (0, d, 2 * d):
                if (dy, dx) != (d, d):
                    shifted.append(padded[dy : dy + height, dx : dx + width])
    return shifted
