"""Reading of label masks, and the table from raw values to class ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import ImageOps

from zeroseg_jax.data.transforms import ImageError, open_image

IGNORED = -1  # id of pixels that no score counts
_MEANINGLESS = -2
_GREY, _DEPTH_AT, _COLOUR_AT = 0, 24, 25  # in the header of a PNG


class MaskError(ImageError):
    """A mask that is not an index image, or has a value without a meaning."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """Meaning of the values in the masks of a data set.

    Attributes:
      table: int32 (values,), class id of each raw value; IGNORED for ignored ones, less for
        values without a meaning.
      reader: reads the raw values of a mask file, int (H, W) from 0; None for read_index.
      hint: likely cause of values without a meaning, a sentence.
    """

    table: np.ndarray
    reader: Callable[[Path], np.ndarray] | None = None
    hint: str = ""

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as class ids.

        Returns:
          int32 (H, W), class ids and IGNORED.

        Raises:
          ImageError: the file is unreadable.
          MaskError: the mask has colours instead of indices, or a value without a meaning.
        """
        raw = (self.reader or read_index)(path)
        ids = np.append(self.table, np.int32(_MEANINGLESS))[np.minimum(raw, len(self.table))]
        if ids.min() < IGNORED:
            value = int(raw[ids < IGNORED][0])
            hint = f" {self.hint}" if self.hint else ""
            raise MaskError(
                f"{path}: label {value} has no meaning; known labels: {self.known()}.{hint}"
            )
        return ids

    def known(self) -> str:
        """Return the raw values with a meaning, for example "0..20, 255"."""
        values = np.flatnonzero(self.table >= IGNORED)
        runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
        return ", ".join(f"{r[0]}..{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def build_table(
    ids: Mapping[int, int], ignored: Iterable[int] = (), *, reduce_zero: bool = False
) -> np.ndarray:
    """Build the table of an Encoding.

    Args:
      ids: class id of each raw value.
      ignored: raw values of ignored pixels.
      reduce_zero: True ignores id 0 and subtracts 1 from all others. Being part of the table it
        cannot be applied twice.

    Returns:
      int32 (largest value + 1,).
    """
    ignored = tuple(ignored)
    table = np.full(max([*ids, *ignored]) + 1, _MEANINGLESS, np.int32)
    for value, number in ids.items():
        table[value] = number - 1 if reduce_zero else number  # 0 becomes IGNORED
    table[list(ignored)] = IGNORED
    return table


def read_index(path: Path) -> np.ndarray:
    """Read the raw values of a palette or grey image.

    A palette is not applied: as a colour, class 1 of Pascal VOC would be (128, 0, 0).

    Returns:
      int32 (H, W).

    Raises:
      ImageError: the file is unreadable.
      MaskError: the image has colours or negative values.
    """
    with open_image(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
            raise MaskError(
                f"{path}: mode {image.mode} has colours, not class indices; save masks as palette "
                "or grey PNGs."
            )
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)
        bits = _grey_bits(path) if image.mode == "L" and image.format == "PNG" else 8
    if values.min() < 0:
        raise MaskError(f"{path}: label {values.min()} is negative; labels are 0 or more.")
    # Pillow scales 2- and 4-bit grey values to 0..255.
    return values // (255 // (2**bits - 1)) if bits < 8 else values


def read_rgb_values(path: Path) -> np.ndarray:
    """Read the values red + 256 * green of an RGB image.

    Returns:
      int32 (H, W).

    Raises:
      ImageError: the file is unreadable.
      MaskError: the image is not RGB, or its blue channel is not 0.
    """
    with open_image(path) as image:
        if image.mode != "RGB":
            raise MaskError(f"{path}: mode {image.mode} is not RGB; unpack the masks again.")
        values = np.asarray(image).astype(np.int32)
    if values[..., 2].any():
        raise MaskError(
            f"{path}: blue is up to {values[..., 2].max()}, but masks of this data set have ids "
            "red + 256 * green; unpack the masks again."
        )
    return values[..., 0] + 256 * values[..., 1]


def _grey_bits(path: Path) -> int:
    with open(path, "rb") as file:
        header = file.read(_COLOUR_AT + 1)
    return header[_DEPTH_AT] if header[_COLOUR_AT] == _GREY else 8
