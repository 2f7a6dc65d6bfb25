"""From named segments to pixels: paint, follow the edges, enlarge. Shapes come in few kinds.

The protocol is evaluation's (runner.segment_image). What differs is made so that nothing is
compiled anew for every size of picture and every number of words: scores follow edges on a grid
whose sides are multiples of 32 px, landscape, eight words at a time; the 32 best words go on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zeroseg_jax.inference import pamr as refine
from zeroseg_jax.inference.presets import Preset

MOST_WORDS = 32  # that can win a pixel: those with the highest score anywhere
_GRID_PX = 32
_STRIPE_VALUES = 60_000  # enlarged at once, float32


def paint_windows(
    table: np.ndarray,
    owners: np.ndarray,
    corners: Sequence[tuple[int, int]],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Let pixels follow their segments, and average where windows overlap.

    Args:
      table: float32 (n, S, C), scores.
      owners: uint8 (n, wh, ww), the segment of each pixel of a window.
      corners: (top, left) of each window.
      size: (h, w) that they are laid over.

    Returns:
      float32 (h, w, C) scores, and uint16 (h, w) ids, different in each window; where windows
      overlap the later one's stand.
    """
    total = np.zeros((*size, table.shape[-1]), np.float32)
    counts = np.zeros((*size, 1), np.float32)
    ids = np.zeros(size, np.int64)
    high, wide = owners.shape[1:]
    for number, (top, left) in enumerate(corners):
        area = np.s_[top : top + high, left : left + wide]
        total[area] += table[number][owners[number]]
        counts[area] += 1
        ids[area] = owners[number].astype(np.int64) + number * table.shape[1]
    ids = np.unique(ids, return_inverse=True)[1].reshape(size)
    return total / counts, ids.astype(np.uint16)


def choose_words(table: np.ndarray) -> np.ndarray:
    """Return the rising indices of the MOST_WORDS classes of (n, S, C) that score highest."""
    best = table.max(axis=(0, 1))
    return np.sort(np.argsort(-best, kind="stable")[:MOST_WORDS])


def guide_size(height: int, width: int, preset: Preset) -> tuple[int, int]:
    """Return the size at which scores follow the picture's edges: multiples of 32 px."""
    short = preset.pamr_short_px or min(height, width)  # 0: the picture's own size
    scale = min(1.0, short / min(height, width), 2048 / max(height, width))
    sides = (max(_GRID_PX, round(side * scale / _GRID_PX) * _GRID_PX) for side in (height, width))
    return tuple(sides)


def follow_edges(scores: np.ndarray, guide: np.ndarray, preset: Preset) -> np.ndarray:
    """Refine (h, w, C) scores at the guide's size: float32 (gh, gw, C)."""
    scores = resize_scores(scores, *guide.shape[:2])
    upright = guide.shape[0] > guide.shape[1]
    if upright:
        scores, guide = scores.swapaxes(0, 1), guide.swapaxes(0, 1)
    weights = refine.weigh_neighbours(guide.astype(np.float32), preset.pamr_dilations)
    refined = np.empty_like(scores)
    for start in range(0, scores.shape[-1], refine.CHANNELS_AT_ONCE):
        part = np.s_[..., start : start + refine.CHANNELS_AT_ONCE]
        refined[part] = refine.refine_part(
            scores[part],
            weights,
            dilations=preset.pamr_dilations,
            iterations=preset.pamr_iterations,
        )
    return refined.swapaxes(0, 1) if upright else refined


def resize_scores(scores: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w, C) bilinearly without antialiasing, as jax.image.resize does."""
    for axis, size in ((0, height), (1, width)):
        if scores.shape[axis] != size:
            low, high, share = _taps(scores.shape[axis], size)
            share = share.reshape(-1, *[1] * (2 - axis))
            before, after = scores.take(low, axis=axis), scores.take(high, axis=axis)
            scores = before + (after - before) * share
    return scores


def label_pixels(scores: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Enlarge (h, w, C) and take the best class, the first of equals; a stripe at a time.

    Returns:
      uint8 or uint16 (height, width) classes, and float32 (height, width) their scores.
    """
    labels = np.zeros((height, width), np.uint8 if scores.shape[-1] <= 256 else np.uint16)
    best = np.full((height, width), -np.inf, np.float32)
    low, high, down = _taps(scores.shape[0], height)
    left, right, across = _taps(scores.shape[1], width)
    # Class by class, so that a stripe of one stays in the processor's cache.
    maps = np.ascontiguousarray(scores.transpose(2, 0, 1))
    rows = max(1, _STRIPE_VALUES // width)
    for top in range(0, height, rows):
        part = np.s_[top : top + rows]
        share = down[part, None]
        for number, one in enumerate(maps):
            stripe = one[low[part]]
            stripe += (one[high[part]] - stripe) * share
            value = stripe.take(left, axis=1)
            value += (stripe.take(right, axis=1) - value) * across
            np.copyto(labels[part], number, where=value > best[part], casting="unsafe")
            np.maximum(best[part], value, out=best[part])
    return labels, best


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbours of each new place, and the share of the second; ends repeat."""
    places = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    return low, high, (places - low).astype(np.float32)
