"""Scores of segments or patches against class vectors (ZeroSeg section 3.4, GroupViT's inference).

Pure functions in float32, and the arrays that pass between the steps of the pipeline. Letters: n
windows, S segments or patches of a window, K rows of class vectors, E teacher width.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from zeroseg_jax.teacher.programs import Program

Array = jax.Array
AnyArray = Any  # jax.Array on a device, or np.ndarray: the pipeline passes both
_NORM_EPS = 1e-12
_ROWS = 32  # class vectors are padded to a multiple, so that other class names do not recompile


class Encoded(NamedTuple):
    """Windows encoded without class names; the Predictor caches this.

    Attributes:
      features: float32 (n, S, E), unit rows: segments, or patches row by row.
      global_feature: float32 (n, E), unit rows, of the whole window; None in dense models.
      segment_ids: uint8 or int32 (n, Hpx, Wpx), segment of each pixel; None in dense models,
        whose pixels are interpolated between patches.
    """

    features: AnyArray
    global_feature: AnyArray | None
    segment_ids: AnyArray | None


# So that a program that returns it can be stored, see teacher.programs.
export.register_namedtuple_serialization(Encoded, serialized_name="zeroseg_jax.Encoded")


class Scored(NamedTuple):
    """Scores of windows.

    Attributes:
      table: float32 (n, S, K), scores of each segment or patch. Columns beyond the rule's are
        padding.
      segment_ids: as in Encoded.
    """

    table: AnyArray
    segment_ids: AnyArray | None


class ClassVectors(NamedTuple):
    """Embedded class names.

    Attributes:
      vectors: float32 (K, E), unit rows, the background's last, padded with rows of 0; on the
        device.
      class_ids: int (k,), class of each row that is not padding; the background's are the last.
      background: number of rows of the background.
      names: names of each class, the background's last; empty if unknown.
    """

    vectors: Array
    class_ids: np.ndarray
    background: int
    names: tuple[tuple[str, ...], ...] = ()


def pack_classes(
    classes: Sequence[np.ndarray], background: int = 0, names: Sequence[Sequence[str]] = ()
) -> ClassVectors:
    """Pack class vectors for the compiled programs.

    Args:
      classes: float32 (rows, E) of each class, unit rows; one row, or one for each name.
      background: number of classes, the last ones, that are background.
      names: names of each class; empty if unknown.
    """
    rows = np.concatenate(list(classes)).astype(np.float32)
    padding = np.zeros((-len(rows) % _ROWS, rows.shape[1]), np.float32)
    class_ids = np.repeat(np.arange(len(classes)), [len(part) for part in classes])
    last = sum(len(part) for part in classes[len(classes) - background :])
    # jnp.asarray would compile a program.
    vectors = jax.device_put(np.concatenate([rows, padding]))
    return ClassVectors(vectors, class_ids, last, tuple(tuple(row) for row in names))


@functools.partial(
    Program, static=("naming", "image_filter", "topk", "window_rule", "has_background")
)
def score_windows(
    encoded: Encoded,
    vectors: Array,
    count: Array,
    background: Array,
    scale: Array,
    threshold: Array,
    *,
    naming: str,
    image_filter: str,
    topk: int,
    window_rule: bool,
    has_background: bool,
) -> Array:
    """Score every segment or patch.

    Other shapes or keywords compile again; other class vectors and numbers do not.

    Args:
      encoded: n windows.
      vectors: float32 (K, E), unit rows; those from `count` on are padding.
      count: number of rows that are not padding.
      background: number of rows of the background, the last before the padding.
      scale: factor of cosines.
      threshold: threshold of add_background.
      naming: "pixels" returns cosines, "segments" probabilities.
      image_filter, topk: filter, see score_segments.
      window_rule: True puts a background column by threshold in front.
      has_background: True puts a background column by name in front.

    Returns:
      float32 (n, S, K), or (n, S, 1 + K) with a background column in front.
    """
    if naming == "pixels":
        return encoded.features @ vectors.T
    row = jnp.arange(len(vectors))
    scores = score_segments(
        encoded.features, encoded.global_feature, vectors, row < count,
        scale=scale, image_filter=image_filter, topk=topk,
    )  # fmt: skip
    if has_background:
        return merge_background(scores, (row >= count - background) & (row < count))
    if window_rule:
        return add_background(scores, threshold)
    return scores


def score_segments(
    features: Array,
    global_feature: Array | None,
    vectors: Array,
    valid: Array,
    *,
    scale: Array | float,
    image_filter: str,
    topk: int,
) -> Array:
    """Turn cosines of segments into probabilities over class vectors.

    Args:
      features: float32 (n, S, E), unit rows.
      global_feature: float32 (n, E), unit rows; may be None without a filter.
      vectors: float32 (K, E), unit rows.
      valid: bool (K,), False for padding.
      scale: factor of cosines.
      image_filter: "topk_product" or "none"; see Preset.
      topk: number of classes that the filter keeps.

    Returns:
      float32 (n, S, K): P, or P * Q with the filter; 0 for padding.
    """
    logits = jnp.where(valid, scale * (features @ vectors.T), -jnp.inf)
    probabilities = jax.nn.softmax(logits, axis=-1)
    if image_filter == "none" or global_feature is None:
        return probabilities
    window = jnp.where(valid, scale * (global_feature @ vectors.T), -jnp.inf)
    image = jax.nn.softmax(window, axis=-1)
    least = jax.lax.top_k(image, min(topk, len(vectors)))[0][:, -1:]
    kept = jnp.where((image >= least)[:, None], logits, -jnp.inf)
    return probabilities * jax.nn.softmax(kept, axis=-1)


def choose_segments(maps: Array, size: tuple[int, int]) -> Array:
    """Assign every pixel to the segment whose upsampled map is highest there.

    Args:
      maps: float32 (n, h, w, S), soft.
      size: (Hpx, Wpx).

    Returns:
      uint8 (n, Hpx, Wpx), or int32 for more than 256 segments.
    """
    n, _, _, s = maps.shape
    upsampled = jax.image.resize(maps, (n, *size, s), "bilinear", antialias=False)
    return upsampled.argmax(axis=-1).astype(jnp.uint8 if s <= 256 else jnp.int32)


def add_background(scores: Array, threshold: Array | float) -> Array:
    """Put a background column in front: 1 where no class reaches the threshold, else 0.

    The threshold is lowered to the best score of the window's segments (GroupViT).

    Args:
      scores: float32 (n, S, K), 0 for padding.
      threshold: score in (0, 1].

    Returns:
      float32 (n, S, 1 + K).
    """
    best = scores.max(axis=-1, keepdims=True)
    limit = jnp.minimum(threshold, best.max(axis=1, keepdims=True))
    return jnp.concatenate([(best < limit).astype(scores.dtype), scores], axis=-1)


def merge_background(scores: Array, background: Array) -> Array:
    """Put a background column in front: the best score among the background's class names.

    Args:
      scores: float32 (n, S, K).
      background: bool (K,), rows of the background, at least one.

    Returns:
      float32 (n, S, 1 + K); the background's own columns stay.
    """
    best = jnp.where(background, scores, -jnp.inf).max(axis=-1, keepdims=True)
    return jnp.concatenate([best, scores], axis=-1)


def unit(x: Array) -> Array:
    """Scale the last axis to length 1, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), _NORM_EPS)
