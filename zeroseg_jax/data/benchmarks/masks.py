"""Label masks as files hold them, and what each raw value means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from zeroseg_jax.data.transforms import ImageError, open_image

IGNORED = -1  # a pixel that no score counts
_MEANINGLESS = -2
_GREY, _DEPTH_AT, _COLOUR_AT = 0, 24, 25  # in the header of a PNG


class MaskError(ImageError):
    """A mask that is no index picture, or that holds a value without a meaning."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """How the files of one data set write class ids.

    Attributes:
      table: int32 (values,), the id of each raw value, IGNORED, or less: without a meaning.
      is_rgb: the raw value is red + 256 * green of a colour picture.
      hint: what is probably wrong where a value has no meaning.
    """

    table: np.ndarray
    is_rgb: bool = False
    hint: str = ""

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as int32 (H, W): ids, and IGNORED.

        Raises:
          ImageError: unreadable.
          MaskError: of colours instead of indices, or with a value without a meaning; names
            the file, the value and the known ones.
        """
        raw = read_rgb_values(path) if self.is_rgb else read_index(path)
        ids = np.append(self.table, np.int32(_MEANINGLESS))[np.minimum(raw, len(self.table))]
        if ids.min() < IGNORED:
            value = int(raw[ids < IGNORED][0])
            hint = f" {self.hint}" if self.hint else ""
            raise MaskError(
                f"{path}: label {value} has no meaning here; known are {self.known()}.{hint}"
            )
        return ids

    def known(self) -> str:
        """Describe the raw values that have a meaning, as in "0..20, 255"."""
        values = np.flatnonzero(self.table >= IGNORED)
        runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
        return ", ".join(f"{r[0]}..{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def build_table(
    ids: Mapping[int, int], ignored: Iterable[int] = (), *, reduce_zero: bool = False
) -> np.ndarray:
    """Build the table of an Encoding.

    Args:
      ids: class id of each raw value.
      ignored: raw values of pixels that no score counts.
      reduce_zero: ignore id 0 and take 1 from all others. It is done here, once, where the
        usual tools subtract in place and turn 0 into 255 into 254 when they run twice.

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
    """Read a palette or grey picture as its raw values: integers (H, W).

    A palette is never applied: as colours, class 1 of Pascal VOC would be (128, 0, 0).

    Raises:
      ImageError: unreadable.
      MaskError: a picture of colours.
    """
    with open_image(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
            raise MaskError(
                f"{path}: a picture of mode {image.mode} holds colours, not class indices; "
                "masks are palette or grey PNGs."
            )
        values = np.asarray(image).astype(np.int32)
        bits = _grey_bits(path) if image.mode == "L" and image.format == "PNG" else 8
    if values.min() < 0:
        raise MaskError(f"{path}: label {values.min()} is negative.")
    # Pillow stretches 2 and 4 bits of grey to 0..255.
    return values // (255 // (2**bits - 1)) if bits < 8 else values


def read_rgb_values(path: Path) -> np.ndarray:
    """Read a colour picture as red + 256 * green: int32 (H, W).

    Raises:
      ImageError: unreadable.
      MaskError: not RGB, or with blue in it.
    """
    with open_image(path) as image:
        if image.mode != "RGB":
            raise MaskError(f"{path}: of mode {image.mode}; these masks are RGB pictures.")
        values = np.asarray(image).astype(np.int32)
    if values[..., 2].any():
        raise MaskError(
            f"{path}: has blue up to {values[..., 2].max()}, so it is no mask; ids are "
            "red + 256 * green."
        )
    return values[..., 0] + 256 * values[..., 1]


def _grey_bits(path: Path) -> int:
    with open(path, "rb") as file:
        header = file.read(_COLOUR_AT + 1)
    return header[_DEPTH_AT] if header[_COLOUR_AT] == _GREY else 8
