"""Image operations on numpy arrays, one function each. Images are uint8 RGB (H, W, 3)."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 50_000_000  # config.DataConfig.max_pixels
_WHITE = (255, 255, 255)


class ImageError(ValueError):
    """A picture that cannot be read; the message names the file and the reason."""


@contextlib.contextmanager
def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong while it is open becomes one sentence.

    Args:
      path: a file that Pillow knows.
      max_pixels: a header that announces more is refused before anything is decoded.

    Raises:
      ImageError: missing, empty, not an image, truncated, or too large.
    """
    path = Path(path)
    advice = "make it smaller or raise data.max_pixels."
    try:
        if not path.stat().st_size:
            raise ImageError(f"{path}: the file is empty.")
        with open(path, "rb") as file, _open(file, str(path), max_pixels, None, advice) as image:
            yield image
    except OSError as error:
        raise ImageError(f"{path}: damaged or unreadable ({error.strerror or error}).") from error


@contextlib.contextmanager
def _open(
    file: BinaryIO, name: str, max_pixels: int, formats: tuple[str, ...] | None, advice: str
) -> Iterator[Image.Image]:
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{name}: {image.width} x {image.height} px is more than the limit of "
                    f"{max_pixels} pixels; {advice}"
                )
            yield image
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: its header announces far more than {max_pixels} pixels; not decoded."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image that can be read.") from error
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{name}: damaged or unreadable ({reason}).") from error


def read_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, upright: bool = True
) -> np.ndarray:
    """Read a picture of any common kind as the eye sees it.

    EXIF rotation is applied; transparency is laid on white; palettes, grey, CMYK and 16-bit
    become 8-bit RGB; of an animation the first frame is read.

    Args:
      path: a file that Pillow knows.
      max_pixels: see open_image.
      upright: False leaves the pixels as they are stored, whatever EXIF says.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ImageError: missing, empty, not an image, truncated, or too large.
    """
    with open_image(path, max_pixels=max_pixels) as image:
        return _to_rgb(ImageOps.exif_transpose(image) if upright else image)


def decode_image(
    file: BinaryIO,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] | None = None,
    advice: str = "make it smaller.",
) -> np.ndarray:
    """Decode an open picture; see read_image.

    Args:
      file: holds the picture.
      name: of it, for messages.
      max_pixels: see open_image.
      formats: the only ones that are tried, in Pillow's names; None for all it knows.
      advice: what to do about one that is too large.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ImageError: not an image of these formats, truncated, or too large.
    """
    with _open(file, name, max_pixels, formats, advice) as image:
        return _to_rgb(ImageOps.exif_transpose(image))


def to_image(picture: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Take a picture however it comes.

    Args:
      picture: a path, a Pillow image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4):
        uint8, or floats in [0, 1].

    Returns:
      uint8 (H, W, 3), RGB; transparency on white.

    Raises:
      ImageError: what does not fit, in one sentence.
    """
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(picture))
    if not isinstance(picture, np.ndarray):
        raise ImageError(
            f"image: {type(picture).__name__} is no picture; give a path, a Pillow image or a "
            "numpy array."
        )
    shape = picture.shape
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(f"image: shape {shape} is not (H, W), (H, W, 3) or (H, W, 4).")
    if not picture.size:
        raise ImageError(f"image: shape {shape} holds no pixel.")
    if np.issubdtype(picture.dtype, np.floating):
        if not np.isfinite(picture).all() or picture.min() < 0 or picture.max() > 1:
            raise ImageError("image: floats must be finite and in [0, 1]; or give uint8.")
        picture = np.rint(picture * 255).astype(np.uint8)
    if picture.dtype != np.uint8:
        raise ImageError(f"image: dtype {picture.dtype} is not uint8, nor floats in [0, 1].")
    return _to_rgb(Image.fromarray(picture[..., 0] if shape[2:] == (1,) else picture))


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        if image.mode != "F":
            values = values / 257.0  # 65535 becomes 255
        grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (*_WHITE, 255))
        image = Image.alpha_composite(paper, layer)
    return np.array(image.convert("RGB"))


def centre_square(image: np.ndarray) -> np.ndarray:
    """Cut the largest centred square out of (H, W, 3)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W, 3) bicubically, antialiased when shrinking (Pillow's filter)."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


def square_crop(image: np.ndarray, size_px: int) -> np.ndarray:
    """Cut the centre square of (H, W, 3) and resize it: uint8 (size_px, size_px, 3)."""
    return resize(centre_square(image), size_px, size_px)


def cut_views(image: np.ndarray, windows: list[tuple[float, ...]], size_px: int) -> np.ndarray:
    """Cut windows out of the centre square, each resized.

    They come from the picture's own resolution (no finer than a view needs), by rounded
    edges, so that a 3 x 3 grid fits any side.

    Args:
      image: uint8 (H, W, 3).
      windows: see data/views.py.
      size_px: side of a view.

    Returns:
      uint8 (V, size_px, size_px, 3), in the order of `windows`.

    Source: ZeroSeg, multi-scale views.
    """
    square = centre_square(image)
    finest = round(1 / min(bottom - top for top, _, bottom, _ in windows))
    side = int(np.clip(len(square), size_px, size_px * finest))
    square = resize(square, side, side)
    views = []
    for window in windows:
        top, left, bottom, right = (int(np.rint(edge * side)) for edge in window)
        views.append(resize(square[top:bottom, left:right], size_px, size_px))
    return np.stack(views)
