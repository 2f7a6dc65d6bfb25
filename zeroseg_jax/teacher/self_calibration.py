"""Self-calibration of patch features of one image (SC-CLIP, Bai et al., arXiv 2411.15869).

Outlier patches found by the local outlier factor, filled from their neighbours, and averages over
alike patches. Every function takes one image and has fixed shapes, so that vmap gives a batch.
Letters: P patches, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
_NEIGHBOURS = 30  # k of the local outlier factor
_OUTLIER_PERCENT = 5
_ALIKE_COSINE = 0.4  # patches less alike take no part in an average
_EPS = 1e-6


class Blocks(NamedTuple):
    """Numbers of the blocks that SC-CLIP reads, counted from 1.

    Attributes:
      middle: block whose patches decide which patches are alike.
      low: block of the same for the last averages.
      levels: first and last of the blocks whose sum is read out too.
      class_weight: factor of the class token that is added.
    """

    middle: int
    low: int
    levels: tuple[int, int]
    class_weight: float


# The authors' base_config.py (ViT-B/16), and their values for ViT-L/14 (SuleBai/SC-CLIP#5).
_PUBLISHED = {12: Blocks(9, 4, (4, 10), 0.3), 24: Blocks(17, 7, (9, 19), 0.1)}
PUBLISHED_DEPTHS = tuple(_PUBLISHED)


def choose_blocks(depth: int) -> Blocks:
    """Return the blocks for a tower of `depth` blocks.

    Depths 12 and 24 are the authors'. Any other (own) has the fractions of 12 blocks, rounded, all
    before the last block.

    Raises:
      ValueError: a tower of one block.
    """
    if depth < 2:
        raise ValueError("readout: scclip needs a tower of 2 blocks or more; choose maskclip.")
    if depth in _PUBLISHED:
        return _PUBLISHED[depth]
    base = _PUBLISHED[12]

    def scale(block: int) -> int:
        return min(max(round(block * depth / 12), 1), depth - 1)

    first, last = base.levels
    return Blocks(
        scale(base.middle), scale(base.low), (scale(first), scale(last)), base.class_weight
    )


def find_outliers(patches: Array) -> Array:
    """Find patches unlike their nearest others in feature space.

    The local outlier factor over squared distances, of 30 neighbours, or of half the others
    on a grid of 30 patches or less (own). Outliers are the factors above the 95th percentile.

    Args:
      patches: (P, D).

    Returns:
      bool (P,); no outliers where P is 2 or less, or all patches are equal.
    """
    count = len(patches)
    # With all others as neighbours the two farthest patches would tie.
    k = _NEIGHBOURS if count > _NEIGHBOURS else (count - 1) // 2
    if k < 1:
        return jnp.zeros(count, bool)
    x = patches.astype(jnp.float32)
    x = x - x.mean(axis=0)  # distances stay; the expanded square below loses fewer digits
    square = (x * x).sum(axis=-1)
    products = jnp.matmul(x, x.T, precision="highest")
    distance = jnp.maximum(square[:, None] + square - 2 * products, 0)
    # A patch is no neighbour of itself.
    alone = jnp.where(jnp.eye(count, dtype=bool), jnp.inf, distance)
    # Without the barrier XLA sorts whole rows on a CPU, ten times slower.
    negative, nearest = jax.lax.optimization_barrier(jax.lax.top_k(-alone, k))
    # The authors' reach is at least the patch's own distance to its last neighbour: just that.
    density = 1 / jnp.maximum(-negative[:, -1], jnp.finfo(jnp.float32).tiny)
    factor = density[nearest].mean(axis=-1) / density
    below = (100 - _OUTLIER_PERCENT) * (count - 1) // 100  # rank under the percentile, from 0
    return factor > jax.lax.top_k(factor, count - below)[0][-1]


def fill_outliers(patches: Array, outliers: Array, grid: tuple[int, int]) -> Array:
    """Replace outliers by the mean of those of their 8 neighbours that are none.

    Args:
      patches: (P, D), rows before columns.
      outliers: bool (P,).
      grid: (h, w).

    Returns:
      (P, D); an outlier without such a neighbour stays.
    """
    h, w = grid
    valid = (~outliers).reshape(h, w, 1).astype(jnp.float32)
    features = patches.reshape(h, w, -1)

    def add_neighbours(x: Array) -> Array:
        rows = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        rows = rows[:-2] + rows[1:-1] + rows[2:]
        return rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - x

    # The centre counts in neither sum where it is an outlier, and elsewhere the result is not used.
    count = add_neighbours(valid)
    mean = add_neighbours(features.astype(jnp.float32) * valid) / jnp.maximum(count, 1)
    use = outliers.reshape(h, w, 1) & (count > 0)
    return jnp.where(use, mean.astype(features.dtype), features).reshape(patches.shape)


def cosines(patches: Array) -> Array:
    """Return the cosines between patches (..., P, D), float32 (..., P, P)."""
    x = patches.astype(jnp.float32)
    x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _EPS)
    return jnp.einsum("...pd,...qd->...pq", x, x, precision="highest")


def affinity_weights(similarity: Array, mean_factor: float, scale: float) -> Array:
    """Return attention weights from cosines.

    The softmax over the entries of scale * (S - mean_factor * mean(S)) that are at least 0. A
    patch always keeps itself, so that no row is empty (an image of one colour).

    Args:
      similarity: float32 (P, P) of one image or window; the mean is over all of it.
      mean_factor: beta of ProxyCLIP; 1 in SC-CLIP.
      scale: gamma.

    Returns:
      float32 (P, P), rows sum to 1.
    """
    shifted = scale * (similarity - mean_factor * similarity.mean())
    kept = (shifted >= 0) | jnp.eye(len(shifted), dtype=bool)
    return jax.nn.softmax(jnp.where(kept, shifted, -jnp.inf), axis=-1)


def average_alike(patches: Array, similarity: Array) -> Array:
    """Replace each patch of (P, D) by the mean of all, weighted by cosines of at least 0.4."""
    weights = jnp.where(similarity < _ALIKE_COSINE, 0, similarity)
    weights = weights / (weights.sum(axis=-1, keepdims=True) + _EPS)
    return (weights.astype(patches.dtype) @ patches).astype(patches.dtype)
