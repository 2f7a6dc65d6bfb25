"""Segments, or patches, to scores of words (ZeroSeg section 3.4, GroupViT's inference).

Pure, float32. Letters: B windows, h, w patch grid, S segments, C classes, K scored words, E
teacher width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from zeroseg_jax.models.zeroseg.student import SegmentOutputs

Array = jax.Array
_NORM_EPS = 1e-12


def score_segments(
    outputs: SegmentOutputs, text: Array, *, scale: float, image_filter: str, topk: int
) -> Array:
    """Score every segment for every word by probabilities.

    Args:
      outputs: of the student.
      text: float32 (C, E), unit rows.
      scale: multiplies cosines.
      image_filter: "topk_product" or "none"; see presets.
      topk: of the filter.

    Returns:
      float32 (B, S, C): P, or P * Q where the filter is on.
    """
    logits = scale * cosines(outputs.segments, text)
    probabilities = jax.nn.softmax(logits, axis=-1)
    if image_filter == "none":
        return probabilities
    image = jax.nn.softmax(scale * cosines(outputs.global_feature, text), axis=-1)
    k = min(topk, text.shape[0])
    least = jax.lax.top_k(image, k)[0][:, -1:]
    kept = jnp.where((image >= least)[:, None], logits, -jnp.inf)
    return probabilities * jax.nn.softmax(kept, axis=-1)


def choose_segments(maps: Array, size: tuple[int, int]) -> Array:
    """Let every pixel follow the segment whose enlarged map is highest there.

    Args:
      maps: float32 (B, h, w, S), soft.
      size: (Hpx, Wpx).

    Returns:
      uint8 (B, Hpx, Wpx), or int32 where there are more than 256 segments.
    """
    b, _, _, s = maps.shape
    enlarged = jax.image.resize(maps, (b, *size, s), "bilinear", antialias=False)
    return enlarged.argmax(axis=-1).astype(jnp.uint8 if s <= 256 else jnp.int32)


def add_background(scores: Array, threshold: float) -> Array:
    """Put a column for background in front: 1 where no class reaches the threshold, else 0.

    The threshold is lowered to the best score of the window's segments (GroupViT).

    Args:
      scores: float32 (B, S, C).
      threshold: in (0, 1].

    Returns:
      float32 (B, S, 1 + C).
    """
    best = scores.max(axis=-1, keepdims=True)
    limit = jnp.minimum(threshold, best.max(axis=1, keepdims=True))
    return jnp.concatenate([(best < limit).astype(scores.dtype), scores], axis=-1)


def merge_background(scores: Array, words: int) -> Array:
    """Make the last `words` columns one, the best of them, and put it in front.

    Args:
      scores: float32 (B, S, C + words).
      words: how many of them name background.

    Returns:
      float32 (B, S, 1 + C).
    """
    background = scores[..., -words:].max(axis=-1, keepdims=True)
    return jnp.concatenate([background, scores[..., :-words]], axis=-1)


def cosines(features: Array, text: Array) -> Array:
    """Return float32 (..., C): cosines of (..., E) with unit rows (C, E)."""
    return unit(features) @ text.T


def unit(x: Array) -> Array:
    """Scale the last axis to length 1, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _NORM_EPS)
