"""Pictures of a few training images, to watch a run by: segments, and what the decoder rebuilds."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.models.layers import from_patches, to_patches
from zeroseg_jax.models.zeroseg import student as students

_IMAGES = 4
_OPACITY = 0.55


def build_painter(config: Config, source: Any) -> Callable[[Any], dict[str, np.ndarray]]:
    """Build what paints the source's first images as a student sees them.

    Args:
      config: of the student; mean and std.
      source: random access to dicts with "image" uint8 (image_px, image_px, 3).

    Returns:
      A function from params to {"segments/I": uint8 (image_px, 4 * image_px, 3)}: the image, the
      patches that are left of it under one mask, the decoder's guess at the others among them,
      and the segments of the whole image; of CLIP-ZSS {"labels/I": (image_px, 2 * image_px, 3)},
      the given and the latent labels that it is taught, by id.
    """
    if config.objective == "clip_zss":
        return lambda params: _paint_labels(source)
    student = students.build_student(config.model)
    mean, std = np.float32(config.data.mean), np.float32(config.data.std)
    side = config.model.image_px // config.model.encoder.patch_px
    count = config.model.head.segment_tokens[-1]
    colours = np.array([colorsys.hsv_to_rgb(i / count, 0.8, 1.0) for i in range(count)]) * 255

    @jax.jit
    def look(params, images):
        pixels = (images.astype(jnp.float32) / 255 - mean) / std
        segments = students.apply_segment(student, params, pixels).maps.argmax(axis=-1)
        # The same patches are removed at every step, so that pictures can be compared.
        outputs = students.apply_train(student, params, pixels, key=jax.random.key(0))
        target = to_patches(pixels, config.model.encoder.patch_px)
        guess = outputs.pixels
        if config.loss.normalise_patches:
            # The decoder was taught patches of mean 0 and variance 1; the true ones give the scale.
            spread = target.std(axis=-1, keepdims=True)
            guess = guess * spread + target.mean(axis=-1, keepdims=True)
        removed = outputs.mask[..., None] > 0
        shown = [jnp.where(removed, other, target) for other in (0.0, guess)]
        left, rebuilt = (from_patches(x, side, side) * std + mean for x in shown)
        return segments, left, rebuilt

    def paint(params: Any) -> dict[str, np.ndarray]:
        shown = range(min(_IMAGES, len(source)))
        images = np.stack([source[i]["image"] for i in shown])
        segments, *pictures = jax.device_get(look(params, images))
        patch = images.shape[1] // side
        segments = segments.repeat(patch, axis=1).repeat(patch, axis=2)
        painted = (1 - _OPACITY) * images + _OPACITY * colours[segments]
        left, rebuilt = (np.clip(np.rint(255 * x), 0, 255) for x in pictures)
        row = np.concatenate([images, left, rebuilt, painted], axis=2).astype(np.uint8)
        return {f"segments/{i}": row[i] for i in shown}

    return paint


def _paint_labels(source: Any) -> dict[str, np.ndarray]:
    painted = {}
    for i in range(min(_IMAGES, len(source))):
        record = source[i]
        image, fused = record["image"], record["fused"]
        count = max(int(fused.max()) + 2, 2)
        # Neighbouring ids get distant hues; what has no label stays as it is.
        hues = [0.618 * k % 1 for k in range(count)]
        colours = np.array([colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]) * 255
        at = np.arange(len(image)) * len(fused) // len(image)
        ids = fused[at[:, None], at]
        mixed = (1 - _OPACITY) * image + _OPACITY * colours[np.maximum(ids, 0)]
        shown = np.where(ids[..., None] >= 0, mixed, image).astype(np.uint8)
        painted[f"labels/{i}"] = np.concatenate([image, shown], axis=1)
    return painted
