"""Not in the ZeroSeg paper: cell, patch, inside, dense losses, clustered grouping, diagnostics.

Letters: B images, L tokens, P patches, V views, S segments, E teacher width. All of it is own work
unless a function names a source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import HeadConfig

Array = jax.Array
Distance = Callable[[Array, Array], Array]

_EPS = 1e-6
_USED_SHARE = 0.01  # of the visible patches, above which a segment counts as used
_EXCLUDED = -1e9  # score of a segment without a seed
# Thresholds of inside_loss: share of the segment in the view, share of the view in the segment.
_WHOLE, _LARGE = 0.8, 0.2
_LEAST_AREA = 0.25  # visible patches in a cell, below which the cell is left out


def unit_length(x: Array) -> Array:
    """Scale the last axis to length 1; the gradient at 0 is finite."""
    return x / jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True) + _EPS)


def cell_weights(side_patches: int, windows: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Return the share of each patch inside each view.

    Args:
      side_patches: patches along a side of the square image.
      windows: views as (top, left, bottom, right) in units of the side; see data/views.py.

    Returns:
      float32 (V, P): overlap area in patches; a row sums to the area of the view.
    """
    edges = np.arange(side_patches + 1, dtype=np.float64)

    def overlap(low: float, high: float) -> np.ndarray:
        ends = np.minimum(edges[1:], high * side_patches)
        return np.clip(ends - np.maximum(edges[:-1], low * side_patches), 0, None)

    rows = [
        np.outer(overlap(top, bottom), overlap(left, right)).ravel()
        for top, left, bottom, right in windows
    ]
    return np.stack(rows).astype(np.float32)


def list_terms(
    segments: Array,
    assignment: Array,
    patches: Array | None,
    visible: Array,
    features: Array,
    weights: Array,
    distance: Distance,
    dense: Array | None = None,
) -> dict[str, Callable[[], Array]]:
    """Return the own terms of losses.total_loss by their names in config.LossConfig.

    Args:
      segments, assignment, features, weights, distance: arguments of cell_loss.
      patches, visible: arguments of patch_loss; patches is None where grouping is learned.
      dense: targets of dense_loss; None where the batch has none.

    Returns:
      Functions without arguments that return float32 (B,).
    """

    def patch() -> Array:
        assert patches is not None, "loss.patch needs model.head.grouping='clustered'"
        return patch_loss(patches, visible, features, weights, distance)

    def follow_dense() -> Array:
        assert patches is not None and dense is not None, "loss.dense needs its targets"
        return dense_loss(patches, visible, dense)

    return {
        "patch": patch,
        "dense": follow_dense,
        "cell": lambda: cell_loss(segments, assignment, features, weights, distance),
        "inside": lambda: inside_loss(segments, assignment, features, weights, distance),
    }


def cell_loss(
    segments: Array, assignment: Array, features: Array, weights: Array, distance: Distance
) -> Array:
    """Return the distance between the mixture of segments in each cell and the cell's feature.

    The mixture at patch p is sum_i A_ip g_i. The prediction of a cell is the mean of the mixture
    over its visible patches. Cells without a visible patch are left out.

    Args:
      segments: float32 (B, S, E).
      assignment: float32 (B, S, P), 0 at removed patches.
      features: float32 (B, V, E), in the order of `weights`.
      weights: float32 (V, P), from cell_weights.
      distance: distance over the last axis of broadcast arrays.

    Returns:
      float32 (B,), mean over cells.
    """
    mixture = jnp.einsum("bsp,bse->bpe", assignment, segments)
    return patch_loss(mixture, assignment.sum(axis=1), features, weights, distance)


def patch_loss(
    patches: Array, visible: Array, features: Array, weights: Array, distance: Distance
) -> Array:
    """Return the distance between the mean visible patch of each cell and the cell's feature.

    Args:
      patches: float32 (B, P, E).
      visible: float32 (B, P), 1 visible, 0 removed.
      features, weights, distance: arguments of cell_loss.

    Returns:
      float32 (B,), mean over the cells with a visible patch.
    """
    share = visible[:, None] * weights
    area = share.sum(axis=-1, keepdims=True)
    share = share / jnp.maximum(area, _EPS)
    predicted = jnp.einsum("bvp,bpe->bve", share, patches)
    counted = (area[..., 0] > _LEAST_AREA).astype(jnp.float32)
    apart = distance(predicted, features)
    return (apart * counted).sum(axis=-1) / jnp.maximum(counted.sum(axis=-1), 1)


def dense_loss(patches: Array, visible: Array, targets: Array) -> Array:
    """Return the mean over visible patches of 1 - cosine(patch, the teacher's dense target).

    A cosine, because the length of a read-out's features is not that of the class token. The
    gradient reaches the encoder, the head's blocks before grouping, head/patch_norm and
    head/patch_projection, whose features are clustered at test time. It does not reach the layers
    that give g and z alone: segment_projection, region_projection, global_mlp.

    Args:
      patches: float (B, P, E), head/patch_projection's features.
      visible: float32 (B, P), 1 visible, 0 removed.
      targets: float (B, P, E), a target for each patch, of any length.

    Returns:
      float32 (B,), between 0 and 2; 0 without a visible patch.

    Source: the loss on visible patches of TIPSv2 (arXiv 2604.12012), with the read-outs of a
    frozen teacher in place of a teacher that is trained along.
    """
    cosines = unit_length(patches.astype(jnp.float32)) * unit_length(targets.astype(jnp.float32))
    apart = 1 - cosines.sum(axis=-1)
    return (apart * visible).sum(axis=-1) / jnp.maximum(visible.sum(axis=-1), 1)


def inside_loss(
    segments: Array, assignment: Array, features: Array, weights: Array, distance: Distance
) -> Array:
    """Return the distance between each segment and the views that show it whole and large.

    The weight of a pair of segment and view is the product of two ramps. The first rises with the
    share of the segment inside the view, from 0 at _WHOLE to 1. The second rises with the share
    of the view that the segment covers, from 0 to 1 at _LARGE. Matching (the paper) selects a view
    by similarity of features; this term selects it by position.

    The arguments are those of cell_loss.

    Returns:
      float32 (B,), weighted mean over pairs; 0 without pairs of positive weight.
    """
    both = jnp.einsum("bsp,vp->bsv", assignment, weights)
    area = assignment.sum(axis=2, keepdims=True)
    view = jnp.einsum("bsp,vp->bv", assignment, weights)[:, None]
    whole = (both / jnp.maximum(area, _EPS) - _WHOLE) / (1 - _WHOLE)
    large = both / jnp.maximum(view, _EPS) / _LARGE
    pairs = jnp.clip(whole, 0, 1) * jnp.clip(large, 0, 1) * (area > 1)
    pairs = jax.lax.stop_gradient(pairs)
    apart = distance(segments[:, :, None], features[:, None])
    return (pairs * apart).sum(axis=(1, 2)) / jnp.maximum(pairs.sum(axis=(1, 2)), _EPS)


def overlap_regions(assignment: Array, weights: Array) -> Array:
    """Return the intersection over union of segments and views, over visible patches.

    Args:
      assignment: float32 (B, S, P), 0 at removed patches.
      weights: float32 (V, P), from cell_weights.

    Returns:
      float32 (B, S, V), without gradient.
    """
    assignment = jax.lax.stop_gradient(assignment)
    both = jnp.einsum("bsp,vp->bsv", assignment, weights)
    area = assignment.sum(axis=2, keepdims=True)
    view = jnp.einsum("bp,vp->bv", assignment.sum(axis=1), weights)[:, None]
    return both / jnp.maximum(area + view - both, _EPS)


def normalise_scores(scores: Array, form: str) -> Array:
    """Remove what the scores of a segment have in common at all tokens of an image (own).

    Without this, the segment with the largest common part tends to win every token.

    Args:
      scores: float32 (B, S, L).
      form: "raw" (the paper), "centred", "standardised" or "per_segment", see
        config.HeadConfig.
    """
    if form == "raw":
        return scores
    scores = scores - scores.mean(axis=2, keepdims=True)
    if form == "centred":
        return scores
    axes = (1, 2) if form == "standardised" else 2
    return scores * jax.lax.rsqrt(scores.var(axis=axes, keepdims=True) + _EPS)


def mean_cosine(segments: Array) -> Array:
    """Return the mean cosine over pairs of different segments: (B, S, E) to float32 (B,)."""
    unit = unit_length(segments)
    count = unit.shape[1]
    # The squared length of a sum of unit vectors is the sum of all their cosines.
    cosines = jnp.square(unit.sum(axis=1)).sum(axis=-1) - count
    return cosines / max(count * (count - 1), 1)


def count_distinct(choices: Array, regions: int) -> Array:
    """Count the different regions that int (B, S) chooses: float32 (B,)."""
    chosen = jax.nn.one_hot(choices, regions, dtype=jnp.float32).max(axis=1)
    return chosen.sum(axis=-1)


def count_used(assignment: Array) -> Array:
    """Count the segments of (B, S, P) that win enough visible patches: float32 (B,)."""
    visible = assignment.sum(axis=(1, 2))[:, None]
    winner = jax.nn.one_hot(assignment.argmax(axis=1), assignment.shape[1], axis=1)
    held = (winner * (assignment.sum(axis=1, keepdims=True) > 0)).sum(axis=2)
    return (held > _USED_SHARE * visible).sum(axis=-1).astype(jnp.float32)


def assign_clusters(features: Array, appearance: Array | None, config: HeadConfig) -> Array:
    """Cluster the patches of each image.

    Args:
      features: float32 (B, L, E), centred.
      appearance: (B, L, D), features of an earlier block, used beside `features` at test time;
        None in training.
      config: number of segments and settings of the clustering.

    Returns:
      float32 (B, S, L): sums to 1 over S; 0 in segments without a seed.
    """
    cues, level = jax.lax.stop_gradient(features), config.cluster_level
    segments = config.segment_tokens[-1]
    if appearance is not None:
        # Centred per image, because only differences within the image matter.
        look = appearance - appearance.mean(axis=1, keepdims=True)
        look = config.cluster_appearance * unit_length(look.astype(jnp.float32))
        cues = jnp.concatenate([unit_length(cues), look], axis=-1)
        level = 1.0
        segments = config.test_segments
    return cluster_patches(
        cues,
        segments,
        level=level,
        temperature=config.cluster_temperature,
        iterations=config.cluster_iterations,
    )


def average_clusters(assignment: Array, tokens: Array) -> Array:
    """Return the mean token of each cluster: (B, S, L) and (B, L, D) to (B, S, D)."""
    share = assignment / (assignment.sum(axis=2, keepdims=True) + _EPS)
    return jnp.einsum("bsl,bld->bsd", share.astype(tokens.dtype), tokens)


def subtract_context(segments: Array, assignment: Array, share: float) -> Array:
    """Return unit segments less a share of what the image's segments have in common (own).

    Args:
      segments: float32 (B, S, E), g.
      assignment: float32 (B, S, L), whose mean over L weighs a segment in the common mean.
      share: factor of the mean; 0 returns `segments`.
    """
    if not share:
        return segments
    units = unit_length(segments)
    area = assignment.mean(axis=2)
    return units - share * jnp.einsum("bs,bse->be", area, units)[:, None]


def cluster_patches(
    features: Array, segments: int, *, level: float, temperature: float, iterations: int
) -> Array:
    """Cluster the patches of each image by soft spherical k-means.

    The first seed is the patch with the largest cosine to the mean of all patches. Each further
    seed is the patch with the smallest cosine to its nearest seed, as long as that cosine is below
    `level`. An image may use fewer segments than `segments`. Nothing is learned here.

    Args:
      features: float32 (B, L, E), centred.
      segments: S, maximum number of clusters.
      level: cosine in [-1, 1], above which no further seed is taken.
      temperature: divisor of the cosines in the softmax over segments.
      iterations: number of k-means updates.

    Returns:
      float32 (B, S, L): sums to 1 over S; 0 in segments without a seed.

    Source: own; seeding as in farthest-point sampling (Gonzalez, 1985).
    """
    unit = unit_length(features)
    cosines = jnp.einsum("ble,bme->blm", unit, unit)
    rows = jnp.arange(len(features))

    def add_seed(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple]:
        nearest, candidate = carry
        fresh = (nearest[rows, candidate] < level).astype(jnp.float32)
        nearest = jnp.maximum(nearest, cosines[rows, candidate])
        return (nearest, nearest.argmin(axis=1)), (unit[rows, candidate], fresh)

    first = jnp.einsum("ble,be->bl", unit, unit.mean(axis=1)).argmax(axis=1)
    nothing = jnp.full(unit.shape[:2], -2.0)
    _, (centres, used) = jax.lax.scan(add_seed, (nothing, first), length=segments)
    centres, used = centres.swapaxes(0, 1), used.swapaxes(0, 1)[..., None]

    def assign(centres: Array) -> Array:
        scores = jnp.einsum("bse,ble->bsl", centres, unit) / temperature
        return jax.nn.softmax(jnp.where(used > 0, scores, _EXCLUDED), axis=1)

    def update(_: int, centres: Array) -> Array:
        return unit_length(jnp.einsum("bsl,ble->bse", assign(centres), unit))

    return assign(jax.lax.fori_loop(0, iterations, update, centres)) * used
