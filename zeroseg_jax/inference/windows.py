"""Layout of windows over an image, and resizing as mmcv, cv2 and torch do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from zeroseg_jax.inference.presets import Preset

_MAX_ASPECT = 2.0  # long side over short side up to which "same_area" is one window
_CV2_BITS = 11  # cv2 rounds its weights for bytes to multiples of 2 ** -11


class Layout(NamedTuple):
    """Windows over a resized image: window i is at (tops[i // n], lefts[i % n]), n = len(lefts).

    Attributes:
      height, width: size of the resized image.
      window: (height, width) of each window.
      tops, lefts: rows and columns of the windows' upper left corners.
      span: (height, width) that the scores of a window are spread over; None for the window. It is
        larger where the last pixels do not fill a patch and the model does not see them.
    """

    height: int
    width: int
    window: tuple[int, int]
    tops: list[int]
    lefts: list[int]
    span: tuple[int, int] | None = None

    def areas(self) -> list[tuple[slice, slice]]:
        """List the area of every window, row by row."""
        tall, wide = self.window
        return [np.s_[t : t + tall, x : x + wide] for t in self.tops for x in self.lefts]


def lay_out(
    height: int, width: int, preset: Preset, *, image_px: int, patch_px: int, detail: int = 1
) -> Layout:
    """Lay windows over an image; the one rule for Predictor, page and evaluation.

    Args:
      height, width: size of the image.
      preset: window rule, short side, window and stride.
      image_px: the model's own side, where the preset has no short side.
      patch_px: sides of windows are multiples of it.
      detail: multiple of the short side; more than 1 always lays square windows.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    short = preset.short_side_px or image_px
    side = check_window(preset, image_px=image_px, patch_px=patch_px)
    aspect = height / width
    if detail == 1 and preset.window == "same_area" and 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        rows = max(1, round(short / patch_px * aspect**0.5))
        columns = max(1, round(short / patch_px / aspect**0.5))
        size = (rows * patch_px, columns * patch_px)
        return Layout(*size, size, [0], [0])
    if detail == 1 and preset.window == "whole":
        size = resized_size(height, width, short, preset.long_side_px, least=patch_px)
        seen = (size[0] // patch_px * patch_px, size[1] // patch_px * patch_px)
        return Layout(*size, seen, [0], [0], size)
    size = resized_size(height, width, short * detail, preset.long_side_px)
    stride = preset.stride_px or max(side // 2, 1)
    tops, lefts = (window_starts(length, side, stride) for length in size)
    return Layout(*size, (side, side), tops, lefts)


def check_window(preset: Preset, *, image_px: int, patch_px: int) -> int:
    """Return the side of a square window; a whole image is at least one patch high and wide.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    short = preset.short_side_px or image_px
    side = preset.window_px or short
    if preset.window == "whole":
        side = short // patch_px * patch_px
        if not side:
            raise ValueError(
                f"--set: short_side_px={short} is less than the patch of {patch_px} px."
            )
    elif side % patch_px or side > short:
        raise ValueError(
            f"--set: a window of {side} px must be a multiple of the patch of {patch_px} px and no "
            f"larger than the short side of {short} px; set window_px or short_side_px."
        )
    return side


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return the first pixels of windows along a side; the last window is shifted back inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride + window, length) - window, 0) for i in range(count)]


def resized_size(
    height: int, width: int, short_side: int, long_side: int = 2048, *, least: int = 0
) -> tuple[int, int]:
    """Return the size with the short side at `short_side` and the long one at most `long_side`.

    mmcv's rule: one factor for both sides, halves rounded up. A side that would be less than
    `least` is stretched to it, because a window must fit; see is_stretched.

    Args:
      height, width: size of the image.
      short_side, long_side: mmcv's scale.
      least: least side; 0 for `short_side`.
    """
    factor = min(long_side / max(height, width), short_side / min(height, width))
    new = (int(height * factor + 0.5), int(width * factor + 0.5))
    return max(new[0], least or short_side), max(new[1], least or short_side)


def is_stretched(height: int, width: int, short_side: int, long_side: int = 2048) -> bool:
    """Return True if resized_size with square windows changes the aspect of an image."""
    return max(height, width) * short_side > long_side * min(height, width)


def resize_image(image: np.ndarray, height: int, width: int, method: str) -> np.ndarray:
    """Resize uint8 (H, W, 3) to float32 in [0, 255].

    Args:
      image: uint8 (H, W, 3).
      height, width: new size.
      method: "bilinear": torch.nn.functional.interpolate(align_corners=False). "cv2":
        INTER_LINEAR on bytes, which rounds. Both are without antialiasing. "antialiased": Pillow's
        bicubic.
    """
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    if method == "antialiased":
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(resized, np.float32)
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
    """Return the two neighbours of each new sample and the weight of the second.

    Returns:
      Two int (new,) indices into `old`, and float32 (new,) weights in [0, 1).
    """
    # In float32 like torch, so that resized pixels equal torch's.
    scale, half = np.float32(old) / np.float32(new), np.float32(0.5)
    places = np.maximum((np.arange(new, dtype=np.float32) + half) * scale - half, 0)
    low = np.minimum(places.astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), places - low.astype(np.float32)


def bilinear_matrix(old: int, new: int) -> np.ndarray:
    """Return bilinear_taps as a matrix, float32 (new, old); rows sum to 1."""
    low, high, part = bilinear_taps(old, new)
    matrix = np.zeros((new, old), np.float32)
    rows = np.arange(new)
    matrix[rows, low] = 1 - part
    matrix[rows, high] += part
    return matrix


def nearest_places(old: int, new: int) -> np.ndarray:
    """Return int (new,): the nearest of `old` samples for each of `new`."""
    return ((np.arange(new) + 0.5) * (old / new)).astype(np.int64)


def _resize_bytes(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # cv2's arithmetic on bytes: weights rounded to 11 bits, columns first in integers, then rows
    # with the low bits dropped before and after the product, like its vectorised code.
    values = image.astype(np.int32)
    low, high, w_low, w_high = _cv2_taps(image.shape[1], width, clear_ends=True)
    values = values[:, low] * w_low[None, :, None] + values[:, high] * w_high[None, :, None]
    low, high, w_low, w_high = _cv2_taps(image.shape[0], height, clear_ends=False)
    values >>= 4
    first = (values[low] * w_low[:, None, None]) >> 16
    second = (values[high] * w_high[:, None, None]) >> 16
    return ((first + second + 2) >> 2).astype(np.float32)


def _cv2_taps(old: int, new: int, *, clear_ends: bool) -> tuple[np.ndarray, ...]:
    # Beyond the first and last pixel cv2 uses one column alone, but the same row twice.
    places = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    low = np.floor(places).astype(np.int64)
    part = places - low.astype(np.float32)
    if clear_ends:
        part = np.where((low < 0) | (low >= old - 1), np.float32(0), part)
    one = 1 << _CV2_BITS
    weights = (np.rint(share * one).astype(np.int32) for share in (1 - part, part))
    return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), *weights
