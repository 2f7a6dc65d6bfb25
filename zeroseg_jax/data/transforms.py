"""Decoding, cropping and resizing of images, and cutting of views. Images: uint8 (H, W, 3), RGB."""

from __future__ import annotations

import contextlib
import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zeroseg_jax.data.views import Window

MAX_PIXELS = 50_000_000  # default of data.max_pixels
# Formats that Pillow may open, by its names. Others stay closed whatever the suffix: Pillow starts
# Ghostscript for PostScript, and its decoders of rare formats are little tested.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Suffixes of image files in folders and shards, in lower case.
SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".jp2",
    ".ppm",
)  # fmt: skip
_ORIENTATION = 0x0112  # EXIF tag
_WHITE = (255, 255, 255)
# What Pillow's decoders raise for damaged files, closed files and unknown variants of a format.
_DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError,
    ArithmeticError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
# EXIF orientation -> whether rows and columns are swapped first, and quarter turns to the left.
_TURNS = {
    1: (False, 0), 2: (True, 3), 3: (False, 2), 4: (True, 1),
    5: (True, 0), 6: (False, 3), 7: (True, 2), 8: (False, 1),
}  # fmt: skip
_DEPTHS = (8, 10, 12, 14, 16)  # bits of a grey value in a 16- or 32-bit file


class ImageError(ValueError):
    """An image that cannot be read; the message is one sentence with the file and the reason."""


@contextlib.contextmanager
def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image file; errors inside the block, decoding included, become an ImageError.

    Args:
      path: image file of one of FORMATS, whatever its suffix.
      max_pixels: limit on width times height, checked in the header before decoding.

    Raises:
      ImageError: the file is missing, empty, not an image, damaged or too large.
    """
    path = Path(path)
    advice = "make it smaller or raise data.max_pixels."
    try:
        if not path.stat().st_size:
            raise ImageError(f"{path}: the file is empty.")
        with open(path, "rb") as file, _open(file, str(path), max_pixels, FORMATS, advice) as image:
            yield image
    except OSError as error:
        raise ImageError(f"{path}: damaged or unreadable ({error.strerror or error}).") from error


@contextlib.contextmanager
def _open(
    file: BinaryIO, name: str, max_pixels: int, formats: tuple[str, ...], advice: str
) -> Iterator[Image.Image]:
    try:
        with _decoding(name), Image.open(file, formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{name}: {image.width} x {image.height} px is more than the limit of "
                    f"{max_pixels} pixels; {advice}"
                )
            yield image
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: its header gives more than the limit of {max_pixels} pixels; {advice}"
        ) from error


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn every exception of a decoder into an ImageError that names the image."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image file, or of an unknown format.") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the free memory; make it smaller.") from error
    except _DECODER_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(
            f"{name}: damaged or unreadable ({reason.strip() or type(error).__name__})."
        ) from error


def read_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, upright: bool = True, least_px: int = 0
) -> np.ndarray:
    """Read an image as 8-bit RGB in display orientation.

    EXIF rotation is applied. Transparent pixels are blended with white. Palette, grey and CMYK
    images are converted. Grey values of 16 bits are scaled from the smallest of 8, 10, 12, 14 and
    16 bits that holds the largest one; floats from [0, 1]. Of an animation the first frame is read.

    Args:
      path: image file of one of FORMATS, whatever its suffix.
      max_pixels: limit on width times height; see open_image.
      upright: False ignores the EXIF rotation.
      least_px: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size while both sides keep at least
        this; 0 for full size.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ImageError: the file is missing, empty, not an image, damaged or too large.
    """
    with open_image(path, max_pixels=max_pixels) as image:
        _reduce(image, least_px)
        return _to_rgb(ImageOps.exif_transpose(image) if upright else image, str(path))


def decode_image(
    file: BinaryIO,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: tuple[str, ...] = FORMATS,
    advice: str = "make it smaller.",
    least_px: int = 0,
) -> np.ndarray:
    """Decode an image from an open file; see read_image.

    Args:
      file: open binary file.
      name: name of the image in error messages.
      max_pixels: limit on width times height; see open_image.
      formats: accepted formats by Pillow's names.
      advice: end of the error message about an image that is too large.
      least_px: see read_image.

    Returns:
      uint8 (H, W, 3).

    Raises:
      ImageError: the content is no image of these formats, damaged or too large.
    """
    with _open(file, name, max_pixels, formats, advice) as image:
        _reduce(image, least_px)
        return _to_rgb(ImageOps.exif_transpose(image), name)


def _reduce(image: Image.Image, least_px: int) -> None:
    if least_px:
        image.draft(None, (least_px, least_px))  # nothing happens to other formats


def read_orientation(path: str | Path) -> tuple[tuple[int, int], int]:
    """Read the size of the stored pixels (H, W) and the EXIF orientation, 1 to 8.

    Raises:
      ImageError: the file is missing, empty, not an image or damaged.
    """
    with open_image(path) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return (image.height, image.width), orientation if orientation in _TURNS else 1


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W, ...) of an EXIF orientation, 1 to 8, to display orientation."""
    transposed, turns = _TURNS[orientation]
    return np.rot90(array.swapaxes(0, 1) if transposed else array, turns)


def to_image(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Convert an image of any accepted type to 8-bit RGB.

    Args:
      image: path, Pillow image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or of
        floats in [0, 1].

    Returns:
      uint8 (H, W, 3); transparent pixels are blended with white.

    Raises:
      ImageError: the type, shape, dtype or range is another, or the file cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        with _decoding("image"):
            try:
                image.load()
            except AssertionError as error:  # Pillow's answer, without a word, to a closed file
                raise ImageError(
                    "image: its file was closed before the pixels were read; call load() while it "
                    "is open."
                ) from error
            return _to_rgb(ImageOps.exif_transpose(image), "image")
    if not isinstance(image, np.ndarray):
        raise ImageError(
            f"image: type {type(image).__name__} is not accepted; give a path, a Pillow image or "
            "a numpy array."
        )
    shape = image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(f"image: shape {shape} is not (H, W), (H, W, 3) or (H, W, 4).")
    if not image.size:
        raise ImageError(f"image: shape {shape} has no pixels; give at least one.")
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise ImageError("image: floats must be finite and in [0, 1]; or give uint8.")
        pixels = np.rint(image * 255).astype(np.uint8)
    elif image.dtype == np.uint8:
        pixels = image
    else:
        raise ImageError(f"image: dtype {image.dtype} is not uint8, nor floats in [0, 1].")
    return _to_rgb(Image.fromarray(pixels[..., 0] if shape[2:] == (1,) else pixels), "image")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = _scale_grey(np.asarray(image), name)
        return np.repeat(grey[..., None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (*_WHITE, 255))
        image = Image.alpha_composite(paper, layer)
    return np.array(image.convert("RGB"))


def _scale_grey(values: np.ndarray, name: str) -> np.ndarray:
    """Scale grey values of 16 or 32 bits, or floats, to uint8 (H, W)."""
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.floating):
        whole = np.isfinite(high - low) and low >= 0 and high <= 255 and not (values % 1).any()
        if whole and high > 1:
            return values.astype(np.uint8)
        if not (low >= 0 and high <= 1):  # also false for NaN
            raise ImageError(
                f"{name}: floats from {low:g} to {high:g} are not in [0, 1]; scale them or save "
                "8 bits."
            )
        return np.rint(values * 255).astype(np.uint8)
    if low < 0 or high >= 2 ** _DEPTHS[-1]:
        raise ImageError(
            f"{name}: values from {low:g} to {high:g} are outside 0 to 65535; save 8 or 16 bits."
        )
    largest = next(2**bits - 1 for bits in _DEPTHS if high < 2**bits)
    return np.rint(values.astype(np.float64) * (255 / largest)).astype(np.uint8)


def centre_square(image: np.ndarray) -> np.ndarray:
    """Crop (H, W, ...) to its largest centred square."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) by Pillow's bicubic filter, which antialiases when shrinking."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(
        Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


def square_crop(image: np.ndarray, size_px: int) -> np.ndarray:
    """Crop uint8 (H, W, 3) to its centre square and resize it to (size_px, size_px, 3)."""
    return resize(centre_square(image), size_px, size_px)


def square_for_views(image: np.ndarray, windows: Sequence[Window], size_px: int) -> np.ndarray:
    """Return the centre square at the resolution of which the views are cut.

    It is the image's own, reduced to what the smallest view needs, at least size_px.

    Args:
      image: uint8 (H, W, 3).
      windows: windows of the views; see data/views.py.
      size_px: side of a view.

    Returns:
      uint8 (side, side, 3).
    """
    square = centre_square(image)
    side = int(np.clip(len(square), size_px, count_needed_px(windows, size_px)))
    return resize(square, side, side)


def count_needed_px(windows: Sequence[Window], size_px: int) -> int:
    """Return the side of an image at which its smallest view has size_px pixels."""
    return size_px * round(1 / min(bottom - top for top, _, bottom, _ in windows))


def cut_views(image: np.ndarray, windows: Sequence[Window], size_px: int) -> np.ndarray:
    """Cut windows out of the centre square and resize each.

    Window edges are rounded to pixels, so that a 3 x 3 grid fits any side. teacher/view_cutting.py
    does the same on a device.

    Args:
      image: uint8 (H, W, 3).
      windows: (top, left, bottom, right) in [0, 1] of V views; see data/views.py.
      size_px: side of a view.

    Returns:
      uint8 (V, size_px, size_px, 3), in the order of `windows`.

    Source: ZeroSeg, multi-scale views.
    """
    square = square_for_views(image, windows, size_px)
    views = []
    for window in windows:
        top, left, bottom, right = (int(np.rint(edge * len(square))) for edge in window)
        views.append(resize(square[top:bottom, left:right], size_px, size_px))
    return np.stack(views)
