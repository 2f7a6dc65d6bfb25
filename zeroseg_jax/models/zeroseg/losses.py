"""The losses of ZeroSeg (section 3.3) and the project's own terms.

Arrays in, one value an image out, everything in float32.
Letters: B images, P patches, V views, S segments, E teacher width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import LossConfig

if TYPE_CHECKING:
    from zeroseg_jax.models.zeroseg.student import StudentOutputs

Array = jax.Array
_PATCH_EPS = 1e-6
_NORM_EPS = 1e-6
_WHOLE, _LARGE = 0.8, 0.2  # see inside_loss; shares of a segment and of a view


def reconstruction_loss(
    predicted: Array, target: Array, mask: Array, *, normalise: bool, masked_only: bool
) -> Array:
    """Mean squared error of patches.

    Args:
      predicted, target: float32 (B, P, values).
      mask: float32 (B, P), 1 removed.
      normalise: compare with patches of mean 0 and variance 1 (unbiased, eps 1e-6).
      masked_only: average over removed patches; over all where False or none is removed.

    Returns:
      float32 (B,).

    Source: MAE, section 3 (reconstruction target); ZeroSeg's L_rec.
    """
    if normalise:
        mean = target.mean(axis=-1, keepdims=True)
        variance = target.var(axis=-1, keepdims=True, ddof=1)
        target = (target - mean) / jnp.sqrt(variance + _PATCH_EPS)
    error = jnp.square(predicted - target).mean(axis=-1)
    if not masked_only:
        return error.mean(axis=-1)
    removed = mask.sum(axis=-1)
    masked = (error * mask).sum(axis=-1) / jnp.maximum(removed, 1)
    return jnp.where(removed > 0, masked, error.mean(axis=-1))


def l1_distance(x: Array, y: Array, channels: str) -> Array:
    """L1 over the last axis of broadcast arrays, "mean" or "sum" over it."""
    distance = jnp.abs(x - y)
    return distance.mean(axis=-1) if channels == "mean" else distance.sum(axis=-1)


def distillation_loss(
    global_feature: Array, features: Array, *, channels: str, terms: str
) -> Array:
    """Pull z (B, E) to every view's feature (B, V, E): float32 (B,).

    Source: ZeroSeg, multi-scale feature distillation.
    """
    distance = l1_distance(global_feature[:, None], features, channels)
    return _reduce(distance, terms)


def matching_distances(segments: Array, regions: Array, channels: str) -> Array:
    """L1 between segments (B, S, E) and region features (B, V - 1, E): (B, S, V - 1)."""
    return l1_distance(segments[:, :, None], regions[:, None], channels)


def matching_loss(distances: Array, *, mode: str, terms: str) -> Array:
    """Pull each segment to its nearest region.

    Args:
      distances: float32 (B, S, V - 1).
      mode: "nearest" is the paper's equation 1; "coverage" adds, with equal weight, each
        region's distance to its nearest segment (own), so that no region is left out.
      terms: "mean" or "sum" over segments.

    Returns:
      float32 (B,).
    """
    loss = _reduce(distances.min(axis=2), terms)
    if mode == "coverage":
        loss = 0.5 * (loss + _reduce(distances.min(axis=1), terms))
    return loss


def cell_weights(side_patches: int, windows: list[tuple[float, ...]]) -> np.ndarray:
    """Share of each patch that lies in each view.

    Args:
      side_patches: patches along a side of the square image.
      windows: the views, see data/views.py.

    Returns:
      float32 (V, P): overlap area in patches; a row sums to the view's area.
    """
    edges = np.arange(side_patches + 1, dtype=np.float64)

    def overlap(low, high):
        ends = np.minimum(edges[1:], high * side_patches)
        return np.clip(ends - np.maximum(edges[:-1], low * side_patches), 0, None)

    rows = [
        np.outer(overlap(top, bottom), overlap(left, right)).ravel()
        for top, left, bottom, right in windows
    ]
    return np.stack(rows).astype(np.float32)


def cell_loss(
    segments: Array, assignment: Array, features: Array, weights: Array, *, channels: str
) -> Array:
    """Pull the mixture of segments inside each cell to the cell's feature.

    The mixture at patch p is sum_i A_ip g_i; a cell's prediction is its mean over the visible
    patches inside, and the cell's feature is the teacher's view of it. Cells that no visible
    patch touches are left out.

    Args:
      segments: float32 (B, S, E).
      assignment: float32 (B, S, P), 0 at removed patches.
      features: float32 (B, V, E), in the order of `weights`.
      weights: float32 (V, P), from cell_weights.

    Returns:
      float32 (B,), mean over cells.

    Source: own.
    """
    mixture = jnp.einsum("bsp,bse->bpe", assignment, segments)
    return patch_loss(mixture, assignment.sum(axis=1), features, weights, channels=channels)


def patch_loss(
    patches: Array, visible: Array, features: Array, weights: Array, *, channels: str
) -> Array:
    """Pull the mean of the visible patches inside each cell to the cell's feature.

    Args:
      patches: float32 (B, P, E).
      visible: float32 (B, P), 1 where a patch was seen, 0 where it was removed.
      features: float32 (B, V, E), in the order of `weights`.
      weights: float32 (V, P), from cell_weights.

    Returns:
      float32 (B,), mean over the cells that a visible patch touches.

    Source: own.
    """
    share = visible[:, None] * weights
    area = share.sum(axis=-1, keepdims=True)
    share = share / jnp.maximum(area, _NORM_EPS)
    predicted = jnp.einsum("bvp,bpe->bve", share, patches)
    seen = (area[..., 0] > 0.25).astype(jnp.float32)
    distance = l1_distance(predicted, features, channels)
    return (distance * seen).sum(axis=-1) / jnp.maximum(seen.sum(axis=-1), 1)


def inside_loss(
    segments: Array, assignment: Array, features: Array, weights: Array, *, channels: str
) -> Array:
    """Pull each segment to the views that show it whole and large.

    A pair of segment and view counts by how much of the segment lies in the view (nothing
    below _WHOLE) times how much of the view the segment fills (all from _LARGE on). Where
    the paper asks which view a segment resembles, this asks which view is of it.

    Args:
      segments: float32 (B, S, E).
      assignment: float32 (B, S, P), 0 at removed patches.
      features: float32 (B, V, E), in the order of `weights`.
      weights: float32 (V, P), from cell_weights.

    Returns:
      float32 (B,), the weighted mean over pairs, 0 where none counts.

    Source: own.
    """
    both = jnp.einsum("bsp,vp->bsv", assignment, weights)
    area = assignment.sum(axis=2, keepdims=True)
    view = jnp.einsum("bsp,vp->bv", assignment, weights)[:, None]
    whole = (both / jnp.maximum(area, _NORM_EPS) - _WHOLE) / (1 - _WHOLE)
    large = both / jnp.maximum(view, _NORM_EPS) / _LARGE
    pairs = jnp.clip(whole, 0, 1) * jnp.clip(large, 0, 1) * (area > 1)
    pairs = jax.lax.stop_gradient(pairs)
    distance = l1_distance(segments[:, :, None], features[:, None], channels)
    return (pairs * distance).sum(axis=(1, 2)) / jnp.maximum(pairs.sum(axis=(1, 2)), _NORM_EPS)


def total_loss(
    outputs: StudentOutputs,
    target: Array,
    features: Array,
    config: LossConfig,
    *,
    windows: list[tuple[float, ...]],
) -> tuple[Array, dict[str, Array]]:
    """Add up the weighted terms.

    Args:
      outputs: of the student.
      target: float32 (B, P, values), the image in patches.
      features: (B, V, E), the teacher's; row 0 is the whole image.
      config: weights and reductions.
      windows: the views, see data/views.py; the first is the whole image.

    Returns:
      The loss, float32 (B,), and its parts and diagnostics by name, each float32 (B,):
      distinct_matches counts the different regions that the segments chose, segments_used
      the segments that hold more than 1 % of the visible patches.
    """
    features = features.astype(jnp.float32)
    segments, global_feature = outputs.segments, outputs.global_feature
    patches = outputs.patch_features
    if config.features == "unit":
        patches = None if patches is None else _unit(patches)
        features, segments, global_feature = map(_unit, (features, segments, global_feature))
    # Where the whole image is the only view, its distances are told in place of the regions'.
    regions = features[:, 1:] if features.shape[1] > 1 else features
    distances = matching_distances(segments, regions, config.channels)
    side = int(round(target.shape[1] ** 0.5))
    reductions = {"channels": config.channels, "terms": config.terms}
    followed = features if config.distil_views == "all" else features[:, :1]
    weights = jnp.asarray(cell_weights(side, windows))
    segment_terms = {
        "segments": segments,
        "assignment": outputs.assignment,
        "features": features,
        "weights": weights,
        "channels": config.channels,
    }
    terms = {
        "reconstruction": lambda: reconstruction_loss(
            outputs.pixels,
            target,
            outputs.mask,
            normalise=config.normalise_patches,
            masked_only=config.masked_only,
        ),
        "distillation": lambda: distillation_loss(global_feature, followed, **reductions),
        "matching": lambda: matching_loss(distances, mode=config.matching_mode, terms=config.terms),
        "patch": lambda: patch_loss(
            patches, 1 - outputs.mask, features, weights, channels=config.channels
        ),
        "cell": lambda: cell_loss(**segment_terms),
        "inside": lambda: inside_loss(**segment_terms),
    }
    # A term of weight 0 costs nothing and is not logged.
    parts = {name: term() for name, term in terms.items() if getattr(config, name)}
    loss = sum(getattr(config, name) * value for name, value in parts.items())
    metrics = {f"loss_{name}": value for name, value in parts.items()}
    metrics["distinct_matches"] = _count_distinct(distances.argmin(axis=2), distances.shape[2])
    metrics["segments_used"] = _count_used(outputs.assignment)
    return loss, metrics


def _reduce(distance: Array, terms: str) -> Array:
    return distance.mean(axis=-1) if terms == "mean" else distance.sum(axis=-1)


def _unit(x: Array) -> Array:
    return x / jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True) + _NORM_EPS)


def _count_distinct(choices: Array, regions: int) -> Array:
    chosen = jax.nn.one_hot(choices, regions, dtype=jnp.float32).max(axis=1)
    return chosen.sum(axis=-1)


def _count_used(assignment: Array) -> Array:
    visible = assignment.sum(axis=(1, 2))[:, None]
    winner = jax.nn.one_hot(assignment.argmax(axis=1), assignment.shape[1], axis=1)
    held = (winner * (assignment.sum(axis=1, keepdims=True) > 0)).sum(axis=2)
    return (held > 0.01 * visible).sum(axis=-1).astype(jnp.float32)
