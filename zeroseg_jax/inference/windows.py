"""Resizing and sliding windows: mmcv's sizes, cv2's and torch's pixels, mmsegmentation's grid."""

from __future__ import annotations

import numpy as np
from PIL import Image

MAX_LONG_PX = 2048  # of the long side, mmcv's scale (2048, S)
_CV2_BITS = 11  # cv2 keeps its weights for bytes as multiples of 2 ** -11


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size with the short side at `short_side` and the long one at most 2048.

    mmcv's rule: one factor for both sides, halves rounded up. In pictures so long that the
    short side would fall below `short_side` it is stretched, since a window must fit; see
    is_stretched.
    """
    factor = min(MAX_LONG_PX / max(height, width), short_side / min(height, width))
    new = (int(height * factor + 0.5), int(width * factor + 0.5))
    return max(new[0], short_side), max(new[1], short_side)


def is_stretched(height: int, width: int, short_side: int) -> bool:
    """Tell whether resized_size changes the aspect of a picture."""
    return max(height, width) * short_side > MAX_LONG_PX * min(height, width)


def resize_image(image: np.ndarray, height: int, width: int, method: str) -> np.ndarray:
    """Resize uint8 (H, W, 3) to float32 levels in [0, 255].

    Args:
      image: the picture.
      height, width: new size.
      method: "bilinear" as torch.nn.functional.interpolate(align_corners=False); "cv2" as
        INTER_LINEAR on bytes, which rounds; both without antialiasing; "antialiased" as Pillow's
        bicubic.
    """
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    if method == "antialiased":
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(picture, np.float32)
    if method == "cv2":
        return _resize_bytes(image, height, width)
    return resize_floats(image.astype(np.float32), height, width)


def resize_floats(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize float32 (H, W, K) bilinearly, half-pixel centres, no antialiasing."""
    for axis, size in ((0, height), (1, width)):
        if values.shape[axis] != size:
            low, high, part = bilinear_taps(values.shape[axis], size)
            part = part.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            first = values.take(low, axis=axis)
            values = values.take(high, axis=axis)
            values -= first
            values *= part
            values += first
    return values


def bilinear_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `new` places the two it lies between and how near the second is.

    Returns:
      int (new,) and int (new,) places among `old`, and float32 (new,) in [0, 1).
    """
    # In float32, as torch has it: a thousandth of a pixel would be a visible difference.
    scale, half = np.float32(old) / np.float32(new), np.float32(0.5)
    places = np.maximum((np.arange(new, dtype=np.float32) + half) * scale - half, 0)
    low = np.minimum(places.astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), places - low.astype(np.float32)


def bilinear_matrix(old: int, new: int) -> np.ndarray:
    """Return the same as float32 (new, old): rows sum to 1."""
    low, high, part = bilinear_taps(old, new)
    matrix = np.zeros((new, old), np.float32)
    rows = np.arange(new)
    matrix[rows, low] = 1 - part
    matrix[rows, high] += part
    return matrix


def nearest_places(old: int, new: int) -> np.ndarray:
    """Return int (new,): the nearest of `old` places for each of `new`."""
    return ((np.arange(new) + 0.5) * (old / new)).astype(np.int64)


def _resize_bytes(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # What cv2 does with bytes: weights rounded to 11 bits, columns first in whole numbers, then
    # rows with the low bits cut off before and after the product, as its vector code has it.
    values = image.astype(np.int32)
    low, high, w_low, w_high = _cv2_taps(image.shape[1], width, clear_ends=True)
    values = values[:, low] * w_low[None, :, None] + values[:, high] * w_high[None, :, None]
    low, high, w_low, w_high = _cv2_taps(image.shape[0], height, clear_ends=False)
    values >>= 4
    first = (values[low] * w_low[:, None, None]) >> 16
    second = (values[high] * w_high[:, None, None]) >> 16
    return ((first + second + 2) >> 2).astype(np.float32)


def _cv2_taps(old: int, new: int, *, clear_ends: bool) -> tuple[np.ndarray, ...]:
    # Beyond the first and the last pixel cv2 takes one column alone, but the same row twice.
    places = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    low = np.floor(places).astype(np.int64)
    part = places - low.astype(np.float32)
    if clear_ends:
        part = np.where((low < 0) | (low >= old - 1), np.float32(0), part)
    one = 1 << _CV2_BITS
    weights = (np.rint(share * one).astype(np.int32) for share in (1 - part, part))
    return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), *weights


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along a side; the last is shifted back inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride + window, length) - window, 0) for i in range(count)]
