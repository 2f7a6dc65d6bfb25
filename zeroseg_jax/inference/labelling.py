"""A picture whose windows are scored, to labels at its own size: refine, enlarge, decide."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.inference import canvas, windows
from zeroseg_jax.inference import pamr as refine
from zeroseg_jax.inference.batches import Cut
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.ranking import Ranking, Rule, drop_small
from zeroseg_jax.inference.segmenters import Segmenter


class Named(NamedTuple):
    """What a model makes of a picture, at its own size.

    Attributes:
      labels: int32 (H, W), classes.
      scores: float32 (H, W), their probabilities.
      segments: int32 (H, W), ids before refinement; the labels themselves where a model has
        patches and no segments.
    """

    labels: np.ndarray
    scores: np.ndarray
    segments: np.ndarray


def name_pixels(segmenter: Segmenter, cut: Cut, image: np.ndarray, preset: Preset) -> Named:
    """Label every pixel of a picture.

    Args:
      segmenter: whose windows these are.
      cut: all windows scored.
      image: uint8 (H, W, 3), the picture at its own size.
      preset: the protocol.

    Returns:
      See Named.
    """
    height, width = image.shape[:2]
    picture = canvas.build_canvas(cut.grid, cut.scored, segmenter.patch_px)
    weights = _weigh(image, preset) if preset.pamr_dilations else None

    def label(rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        if weights is None:
            return picture.label(height, width, rule)
        return _label_refined(picture, weights, height, width, rule, preset)

    labels, scores = label(segmenter.rule)
    if preset.area_threshold and preset.names_background:
        # Classes are measured as they win, before the threshold takes pixels away.
        open_rule = dataclasses.replace(segmenter.rule, threshold=0.0)
        measured = label(open_rule)[0] if segmenter.rule.threshold else labels
        stricter = drop_small(measured, segmenter.rule, preset.area_threshold)
        if stricter is not None:
            labels, scores = label(stricter)
    if cut.scored[0].winners is None:
        return Named(labels, scores, labels)
    segments = canvas.spread_segments(cut.grid, cut.scored, height, width)
    return Named(labels, scores, segments)


def _weigh(image: np.ndarray, preset: Preset) -> jax.Array:
    height, width = image.shape[:2]
    if preset.pamr_short_px and min(height, width) > preset.pamr_short_px:
        height, width = windows.resized_size(height, width, preset.pamr_short_px)
    guide = jnp.asarray(windows.resize_image(image, height, width, "antialiased"))
    return refine.weigh_neighbours(guide, preset.pamr_dilations)


def _label_refined(
    picture: canvas.Canvas,
    weights: jax.Array,
    height: int,
    width: int,
    rule: Rule,
    preset: Preset,
) -> tuple[np.ndarray, np.ndarray]:
    ranking = Ranking(rule, height * width)
    for start in range(0, picture.words, refine.CHANNELS_AT_ONCE):
        stop = min(start + refine.CHANNELS_AT_ONCE, picture.words)
        scores = windows.resize_floats(picture.channels(start, stop), *weights.shape[1:3])
        refined = refine.refine_part(
            scores, weights, dilations=preset.pamr_dilations, iterations=preset.pamr_iterations
        )
        refined = windows.resize_floats(refined, height, width)
        ranking.add(refined.reshape(height * width, -1), start)
    labels, best = ranking.finish()
    return labels.reshape(height, width), best.reshape(height, width)
