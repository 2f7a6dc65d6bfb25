"""Preview images for TensorBoard: segments, masked and reconstructed images, training labels."""

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


def build_previews(config: Config, source: Any) -> Callable[[Any], dict[str, np.ndarray]]:
    """Build the function that draws the first images of the training set.

    Args:
      config: settings of the run.
      source: random access to dicts with "image" uint8 (image_px, image_px, 3).

    Returns:
      A function from parameters to images by name. ZeroSeg: {"segments/I": uint8
      (image_px, 4 * image_px, 3)}, the image, its visible patches under a fixed mask, its
      reconstruction, and its segments. CLIP-ZSS: {"labels/I": uint8 (image_px, 2 * image_px, 3)},
      the image and its training labels, seen and latent, coloured by id.
    """
    if config.objective == "clip_zss":
        return lambda params: _draw_labels(source)
    student = students.build_student(config.model)
    mean, std = np.asarray(config.data.mean, np.float32), np.asarray(config.data.std, np.float32)
    side = config.model.image_px // config.model.encoder.patch_px
    count = config.model.head.test_segments
    colours = np.array([colorsys.hsv_to_rgb(i / count, 0.8, 1.0) for i in range(count)]) * 255

    @jax.jit
    def forward(params: Any, images: jax.Array) -> tuple[jax.Array, ...]:
        pixels = (images.astype(jnp.float32) / 255 - mean) / std
        segments = students.apply_segment(student, params, pixels).maps.argmax(axis=-1)
        # A fixed key removes the same patches at every step, so that images can be compared.
        outputs = students.apply_train(student, params, pixels, key=jax.random.key(0))
        target = to_patches(pixels, config.model.encoder.patch_px)
        guess = outputs.pixels
        if config.loss.normalise_patches:
            # The decoder predicts standardised patches; the target gives mean and scale.
            spread = target.std(axis=-1, keepdims=True)
            guess = guess * spread + target.mean(axis=-1, keepdims=True)
        removed = outputs.mask[..., None] > 0
        shown = [jnp.where(removed, other, target) for other in (0.0, guess)]
        left, rebuilt = (from_patches(x, side, side) * std + mean for x in shown)
        return segments, left, rebuilt

    def draw(params: Any) -> dict[str, np.ndarray]:
        shown = range(min(_IMAGES, len(source)))
        images = np.stack([source[i]["image"] for i in shown])
        segments, *pixels = jax.device_get(forward(params, images))
        step = images.shape[1] // segments.shape[1]  # pixels of a patch, 1 after upsampling
        segments = segments.repeat(step, axis=1).repeat(step, axis=2)
        painted = (1 - _OPACITY) * images + _OPACITY * colours[segments]
        left, rebuilt = (np.clip(np.rint(255 * x), 0, 255) for x in pixels)
        row = np.concatenate([images, left, rebuilt, painted], axis=2).astype(np.uint8)
        return {f"segments/{i}": row[i] for i in shown}

    return draw


def _draw_labels(source: Any) -> dict[str, np.ndarray]:
    drawn = {}
    for i in range(min(_IMAGES, len(source))):
        record = source[i]
        image, fused = record["image"], record["fused"]
        count = max(int(fused.max()) + 2, 2)
        # Neighbouring ids get distant hues; unlabelled pixels are not coloured.
        hues = [0.618 * k % 1 for k in range(count)]
        colours = np.array([colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues]) * 255
        at = np.arange(len(image)) * len(fused) // len(image)
        ids = fused[at[:, None], at]
        mixed = (1 - _OPACITY) * image + _OPACITY * colours[np.maximum(ids, 0)]
        shown = np.where(ids[..., None] >= 0, mixed, image).astype(np.uint8)
        drawn[f"labels/{i}"] = np.concatenate([image, shown], axis=1)
    return drawn
