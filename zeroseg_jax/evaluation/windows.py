"""Resizing and sliding windows: mmsegmentation's grid, with every size a window's own."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from PIL import Image

_MAX_RATIO_PX = 2048  # of the long side, mmcv's scale (2048, S)
_CLASS_CHUNK = 32


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size with the short side at `short_side` and the long one at most 2048.

    mmcv's rule: one factor for both sides, halves rounded up; no side falls below the short
    one, since a window must fit.
    """
    factor = min(_MAX_RATIO_PX / max(height, width), short_side / min(height, width))
    new = (int(height * factor + 0.5), int(width * factor + 0.5))
    return max(new[0], short_side), max(new[1], short_side)


def resize_image(image: np.ndarray, height: int, width: int, method: str) -> np.ndarray:
    """Resize uint8 (H, W, 3) to float32 levels in [0, 255]; see presets for the methods."""
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    if method == "antialiased":
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture, np.float32)
    shape = (height, width, image.shape[2])
    levels = image.astype(np.float32)
    return np.asarray(jax.image.resize(levels, shape, "bilinear", antialias=False))


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along a side; the last is shifted back inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride + window, length) - window, 0) for i in range(count)]


def slide(
    image: np.ndarray,
    window: int,
    stride: int,
    score: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Score all windows of an image and average where they overlap.

    Args:
      image: float32 (H, W, 3), no side under the window.
      window, stride: in pixels.
      score: one window (1, window, window, 3) to scores (1, window, window, C) and segments
        (1, window, window). One at a time: a single compiled shape whatever the image.

    Returns:
      float32 (H, W, C) scores, and int32 (H, W) segment ids, different in each window; where
      windows overlap the later one's ids stand.
    """
    height, width = image.shape[:2]
    total, counts, ids = None, np.zeros((height, width, 1), np.float32), None
    offset = 0
    for top in window_starts(height, window, stride):
        for left in window_starts(width, window, stride):
            area = np.s_[top : top + window, left : left + window]
            scores, segments = (np.asarray(x)[0] for x in score(image[area][None]))
            if total is None:
                total = np.zeros((height, width, scores.shape[-1]), np.float32)
                ids = np.zeros((height, width), np.int32)
            total[area] += scores
            counts[area] += 1
            ids[area] = segments + offset
            offset += int(segments.max()) + 1
    return total / counts, ids


def label_pixels(scores: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge scores (h, w, C) bilinearly and take the best class, a chunk of classes at a time.

    Returns:
      int32 (height, width) classes, and float32 (height, width) their scores.
    """
    best = np.full((height, width), -np.inf, np.float32)
    labels = np.zeros((height, width), np.int32)
    for start in range(0, scores.shape[-1], _CLASS_CHUNK):
        part = scores[..., start : start + _CLASS_CHUNK]
        if part.shape[:2] != (height, width):
            shape = (height, width, part.shape[-1])
            part = np.asarray(jax.image.resize(part, shape, "bilinear", antialias=False))
        winner = part.argmax(axis=-1)
        value = np.take_along_axis(part, winner[..., None], axis=-1)[..., 0]
        better = value > best
        labels[better], best[better] = winner[better] + start, value[better]
    return labels, best
