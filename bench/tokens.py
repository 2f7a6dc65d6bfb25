"""Dense tokens of a teacher for uint8 images, one image a call to bound the memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zeroseg_jax.teacher.load import Teacher


def dense_tokens(clip: Teacher, images: Sequence[np.ndarray], readout: str) -> np.ndarray:
    """Encode images to dense tokens.

    Args:
      clip: teacher.
      images: uint8 (H, W, 3) each, all of one size, H and W multiples of the patch.
      readout: name of a dense read-out.

    Returns:
      float32 (N, h, w, E).
    """
    mean, std = np.float32(clip.mean), np.float32(clip.std)
    pixels = ((image.astype(np.float32)[None] / 255 - mean) / std for image in images)
    return np.concatenate([np.asarray(clip.dense(p, readout), np.float32) for p in pixels])
