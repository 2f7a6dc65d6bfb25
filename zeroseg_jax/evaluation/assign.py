"""Segments to classes to pixels (ZeroSeg section 3.4, GroupViT's inference). Pure, float32.

Letters: B windows, h, w patch grid, S segments, C classes, E teacher width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from zeroseg_jax.models.student import SegmentOutputs

Array = jax.Array
_NORM_EPS = 1e-12


def score_segments(
    outputs: SegmentOutputs, text: Array, *, scale: float, image_filter: str, topk: int
) -> Array:
    """Score every segment for every class.

    Args:
      outputs: of the student.
      text: float32 (C, E), unit rows.
      scale: multiplies cosines.
      image_filter: "topk_product" or "none"; see presets.
      topk: of the filter.

    Returns:
      float32 (B, S, C): P, or P * Q where the filter is on.
    """
    logits = scale * unit(outputs.segments) @ text.T
    probabilities = jax.nn.softmax(logits, axis=-1)
    if image_filter == "none":
        return probabilities
    image = jax.nn.softmax(scale * unit(outputs.global_feature) @ text.T, axis=-1)
    k = min(topk, text.shape[0])
    least = jax.lax.top_k(image, k)[0][:, -1:]
    kept = jnp.where((image >= least)[:, None], logits, -jnp.inf)
    return probabilities * jax.nn.softmax(kept, axis=-1)


def paint_segments(maps: Array, scores: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Let every pixel follow its segment.

    Args:
      maps: float32 (B, h, w, S), soft.
      scores: float32 (B, S, C).
      size: (Hpx, Wpx).

    Returns:
      float32 (B, Hpx, Wpx, C) class scores, and int32 (B, Hpx, Wpx) the segment of each pixel.
    """
    b, _, _, s = maps.shape
    enlarged = jax.image.resize(maps, (b, *size, s), "bilinear", antialias=False)
    winners = enlarged.argmax(axis=-1)
    rows = jnp.arange(b)[:, None, None]
    return scores[rows, winners], winners


def score_patches(features: Array, text: Array, *, scale: float, size: tuple[int, int]) -> Array:
    """Score a dense read-out: probabilities at patches (B, h, w, E), enlarged to pixels.

    Returns:
      float32 (B, Hpx, Wpx, C).
    """
    probabilities = jax.nn.softmax(scale * unit(features) @ text.T, axis=-1)
    shape = (len(features), *size, text.shape[0])
    return jax.image.resize(probabilities, shape, "bilinear", antialias=False)


def add_background(scores: Array, threshold: float) -> Array:
    """Put a background channel in front: it wins where no class reaches the threshold.

    The threshold is lowered to the window's best score, so that a window is never all
    background (GroupViT).

    Args:
      scores: float32 (B, Hpx, Wpx, C).
      threshold: in (0, 1].

    Returns:
      float32 (B, Hpx, Wpx, 1 + C).
    """
    best = scores.max(axis=-1, keepdims=True)
    limit = jnp.minimum(threshold, best.max(axis=(1, 2, 3), keepdims=True))
    return jnp.concatenate([(best < limit).astype(scores.dtype), scores], axis=-1)


def merge_background(scores: Array, words: int) -> Array:
    """Make the last `words` channels one, the best of them, and put it in front.

    Args:
      scores: float32 (B, Hpx, Wpx, C + words).
      words: how many of the classes name background.

    Returns:
      float32 (B, Hpx, Wpx, 1 + C).
    """
    background = scores[..., -words:].max(axis=-1, keepdims=True)
    return jnp.concatenate([background, scores[..., :-words]], axis=-1)


def unit(x: Array) -> Array:
    """Scale the last axis to length 1, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _NORM_EPS)
