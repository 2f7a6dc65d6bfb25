"""What can be evaluated: a student, a dense read-out of its teacher, or chance.

Each has `name`, `native_px` and `score(window)`: float32 (1, H, W, 3) levels in [0, 255] to
class scores (1, H, W, C or 1 + C) and segments (1, H, W).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.evaluation import assign
from zeroseg_jax.evaluation.presets import Preset
from zeroseg_jax.models import student as students
from zeroseg_jax.teacher import Teacher

_BLOCK_PX = 16


class StudentSegmenter:
    """A trained student with words; text is float32 (C, E), unit rows."""

    def __init__(
        self, params: Any, config: Config, text: np.ndarray, preset: Preset, logit_scale: float
    ):
        self.native_px = config.model.image_px
        self.patch_px = config.model.encoder.patch_px
        student = students.build_student(config.model)
        mean, std = (jnp.array(v, jnp.float32) for v in (config.data.mean, config.data.std))
        scale = _scale(preset, logit_scale)

        @jax.jit
        def score(params, text, window):
            pixels = (window / 255 - mean) / std
            outputs = students.apply_segment(student, params, pixels)
            scores = assign.score_segments(
                outputs, text, scale=scale, image_filter=preset.image_filter, topk=preset.topk
            )
            painted, segments = assign.paint_segments(outputs.maps, scores, window.shape[1:3])
            return _finish(painted, preset), segments

        self.score = functools.partial(score, params, jnp.asarray(text))


class DenseSegmenter:
    """A dense read-out of the teacher; every patch is a segment of its own."""

    def __init__(
        self, teacher: Teacher, readout: str, native_px: int, text: np.ndarray, preset: Preset
    ):
        self.native_px, self.patch_px = native_px, teacher.patch_px
        scale = _scale(preset, teacher.logit_scale)
        mean, std = (jnp.array(v, jnp.float32) for v in (teacher.mean, teacher.std))

        @jax.jit
        def paint(features, text, window):
            painted = assign.score_patches(features, text, scale=scale, size=window.shape[1:3])
            painted = _finish(painted, preset)
            return painted, painted.argmax(axis=-1)

        def score(window):
            window = jnp.asarray(window)
            features = teacher.dense((window / 255 - mean) / std, readout)
            return paint(features, text, window)

        self.score = score


class ChanceSegmenter:
    """A class drawn evenly for each block of 16 x 16 px, whatever the picture shows."""

    def __init__(self, classes: int, has_background: bool, native_px: int):
        self.native_px, self.patch_px = native_px, 1
        self._rng = np.random.default_rng(0)
        self._channels = classes + int(has_background)

    def score(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw scores."""
        b, height, width, _ = window.shape
        shape = (b, -(-height // _BLOCK_PX), -(-width // _BLOCK_PX))
        blocks = self._rng.integers(self._channels, size=shape)
        drawn = blocks.repeat(_BLOCK_PX, axis=1).repeat(_BLOCK_PX, axis=2)[:, :height, :width]
        return np.eye(self._channels, dtype=np.float32)[drawn], drawn


def _scale(preset: Preset, logit_scale: float) -> float:
    return min(preset.logit_scale or logit_scale, 100.0)


def _finish(scores: jax.Array, preset: Preset) -> jax.Array:
    if preset.background_words:
        return assign.merge_background(scores, len(preset.background_words))
    return assign.add_background(scores, preset.threshold) if preset.threshold else scores
