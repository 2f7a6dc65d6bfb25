"""Segment pictures of a few training images, to watch a run by."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.models import student as students

_IMAGES = 4
_OPACITY = 0.55


def build_painter(config: Config, source: Any) -> Callable[[Any], dict[str, np.ndarray]]:
    """Build what paints the segments of the source's first images, beside each image.

    Args:
      config: of the student; mean and std.
      source: random access to dicts with "image" uint8 (image_px, image_px, 3).

    Returns:
      A function from params to {"segments/I": uint8 (image_px, 2 * image_px, 3)}.
    """
    student = students.build_student(config.model)
    mean, std = np.float32(config.data.mean), np.float32(config.data.std)
    side = config.model.image_px // config.model.encoder.patch_px
    count = config.model.head.segment_tokens[-1]
    colours = np.array([colorsys.hsv_to_rgb(i / count, 0.8, 1.0) for i in range(count)]) * 255

    @jax.jit
    def find_segments(params, images):
        pixels = (images.astype(jnp.float32) / 255 - mean) / std
        return students.apply_segment(student, params, pixels).maps.argmax(axis=-1)

    def paint(params: Any) -> dict[str, np.ndarray]:
        shown = range(min(_IMAGES, len(source)))
        images = np.stack([source[i]["image"] for i in shown])
        segments = jax.device_get(find_segments(params, images))
        patch = images.shape[1] // side
        segments = segments.repeat(patch, axis=1).repeat(patch, axis=2)
        painted = (1 - _OPACITY) * images + _OPACITY * colours[segments]
        both = np.concatenate([images, painted.astype(np.uint8)], axis=2)
        return {f"segments/{i}": both[i] for i in shown}

    return paint
