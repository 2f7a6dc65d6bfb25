"""ZeroSeg losses (section 3.3): reconstruction, distillation, matching, and their weighted sum.

Every term takes arrays and returns one float32 value per image; terms of own_terms.py are added.
Letters: B images, P patches, V views, S segments, E teacher width.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from zeroseg_jax.config import LossConfig
from zeroseg_jax.models.zeroseg import own_terms
from zeroseg_jax.models.zeroseg.student import StudentOutputs

Array = jax.Array
_PATCH_EPS = 1e-6


def reconstruction_loss(
    predicted: Array, target: Array, mask: Array, *, normalise: bool, masked_only: bool
) -> Array:
    """Return the mean squared error of patches.

    Args:
      predicted, target: float32 (B, P, values).
      mask: float32 (B, P), 1 removed, 0 visible.
      normalise: True to standardise each target patch (unbiased variance, eps 1e-6).
      masked_only: True to average over removed patches; an image without any, and every image
        where False, averages over all patches.

    Returns:
      float32 (B,).

    Source: MAE, section 3 (reconstruction target); ZeroSeg, L_rec.
    """
    chex.assert_equal_shape([predicted, target])
    chex.assert_shape(mask, target.shape[:2])
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


def l1_distance(x: Array, y: Array, channels: str = "mean") -> Array:
    """Return the L1 distance over the last axis of broadcast arrays, as "mean" or "sum"."""
    distance = jnp.abs(x - y)
    return distance.mean(axis=-1) if channels == "mean" else distance.sum(axis=-1)


def distillation_loss(
    global_feature: Array, features: Array, *, channels: str, terms: str
) -> Array:
    """Return the L1 distance of z (B, E) to the feature of every view (B, V, E): float32 (B,).

    Source: ZeroSeg, multi-scale feature distillation.
    """
    distance = l1_distance(global_feature[:, None], features, channels)
    return _reduce(distance, terms)


def matching_distances(segments: Array, regions: Array, channels: str) -> Array:
    """Return L1 of segments (B, S, E) to region features (B, V - 1, E): (B, S, V - 1)."""
    return l1_distance(segments[:, :, None], regions[:, None], channels)


def matching_loss(
    distances: Array, *, mode: str, terms: str, overlaps: Array | None = None
) -> Array:
    """Return the distance of each segment to the region that it is matched to.

    Args:
      distances: float32 (B, S, V - 1).
      mode: "nearest", the paper's equation 1; "coverage" (own) averages it with the distance of
        each region to its nearest segment, so that every region is matched; "located" (own)
        matches a segment to the region of largest overlap.
      terms: "mean" or "sum" over segments.
      overlaps: float32 (B, S, V - 1), from own_terms.overlap_regions; for "located" alone.

    Returns:
      float32 (B,).
    """
    if mode == "located":
        assert overlaps is not None
        chosen = jax.nn.one_hot(overlaps.argmax(axis=2), distances.shape[2])
        return _reduce((distances * chosen).sum(axis=2), terms)
    loss = _reduce(distances.min(axis=2), terms)
    if mode == "coverage":
        loss = 0.5 * (loss + _reduce(distances.min(axis=1), terms))
    return loss


def total_loss(
    outputs: StudentOutputs,
    target: Array,
    features: Array,
    config: LossConfig,
    *,
    windows: Sequence[tuple[float, ...]],
    dense: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Return the weighted sum of the terms.

    Args:
      outputs: output of the student.
      target: float32 (B, P, values), patches of the image; the patch grid is square.
      features: (B, V, E), features of the teacher's views; row 0 is the whole image.
      config: weights and reductions.
      windows: views, see data/views.py; the first is the whole image.
      dense: (B, P, E), the teacher's dense target of each patch; only for loss.dense.

    Returns:
      The loss float32 (B,), and metrics by name, each float32 (B,): the terms, distinct_matches
      (number of different regions matched), segment_cosine (mean cosine between different
      segments) and segments_used (number of segments that hold more than 1 % of the visible
      patches).
    """
    chex.assert_shape(target, outputs.pixels.shape)
    chex.assert_shape(features, (len(target), len(windows), outputs.segments.shape[-1]))
    features = features.astype(jnp.float32)
    segments, global_feature = outputs.segments, outputs.global_feature
    patches = outputs.patch_features
    if config.features == "unit":
        patches = None if patches is None else own_terms.unit_length(patches)
        features, segments, global_feature = map(
            own_terms.unit_length, (features, segments, global_feature)
        )
    # With the whole image as the only view, the metrics report the distances to it.
    regions = features[:, 1:] if features.shape[1] > 1 else features
    distances = matching_distances(segments, regions, config.channels)
    side = int(round(target.shape[1] ** 0.5))
    weights = jnp.asarray(own_terms.cell_weights(side, windows))
    overlaps = None
    if config.matching_mode == "located":
        overlaps = own_terms.overlap_regions(outputs.assignment, weights[-regions.shape[1] :])
    reductions = {"channels": config.channels, "terms": config.terms}
    distilled = features if config.distil_views == "all" else features[:, :1]
    terms = {
        "reconstruction": lambda: reconstruction_loss(
            outputs.pixels,
            target,
            outputs.mask,
            normalise=config.normalise_patches,
            masked_only=config.masked_only,
        ),
        "distillation": lambda: distillation_loss(global_feature, distilled, **reductions),
        "matching": lambda: matching_loss(
            distances, mode=config.matching_mode, terms=config.terms, overlaps=overlaps
        ),
        **own_terms.list_terms(
            segments,
            outputs.assignment,
            patches,
            1 - outputs.mask,
            features,
            weights,
            functools.partial(l1_distance, channels=config.channels),
            dense,
        ),
    }
    # Terms of weight 0 are neither computed nor logged.
    parts = {name: term() for name, term in terms.items() if getattr(config, name)}
    loss = sum(getattr(config, name) * value for name, value in parts.items())
    metrics = {f"loss_{name}": value for name, value in parts.items()}
    matches = distances.argmin(axis=2) if overlaps is None else overlaps.argmax(axis=2)
    metrics["distinct_matches"] = own_terms.count_distinct(matches, distances.shape[2])
    metrics["segment_cosine"] = own_terms.mean_cosine(outputs.segments)
    metrics["segments_used"] = own_terms.count_used(outputs.assignment)
    return loss, metrics


def _reduce(distance: Array, terms: str) -> Array:
    return distance.mean(axis=-1) if terms == "mean" else distance.sum(axis=-1)
