"""Run-length encoded masks of COCO: column by column, alternating runs of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FIRST = 48  # a letter is 48 + six bits: five of the number, and one if more follow
_MORE, _SIGN, _BITS = 0x20, 0x10, 0x1F
_MAX_LETTERS = 12


def decode(counts: str | Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode one mask.

    Args:
      counts: run lengths, as a list or in COCO's compressed letters.
      height, width: size of the mask.

    Returns:
      bool (height, width).

    Raises:
      ValueError: the runs do not fill the mask, or the letters are invalid.
    """
    runs = decompress(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"the runs cover {int(runs.sum())} pixels, but the mask has {height} x {width}"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decompress(letters: str) -> np.ndarray:
    """Decode COCO's letters to run lengths.

    A number is written in groups of five bits, lowest first. From the fourth number on it is the
    difference to the number two places before.

    Returns:
      int64 (runs,).

    Raises:
      ValueError: a letter is outside the alphabet, or the last number is incomplete.
    """
    codes = np.frombuffer(letters.encode("latin-1", "replace"), np.uint8).astype(np.int64) - _FIRST
    if not codes.size:
        return codes
    if codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("the counts have a letter outside the alphabet of run lengths")
    last = (codes & _MORE) == 0
    if not last[-1]:
        raise ValueError("the counts end within a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_LETTERS:
        raise ValueError("the counts have a number of more than 60 bits")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & _BITS) << (5 * place), starts)
    negative = (codes[ends] & _SIGN) != 0
    numbers -= np.where(negative, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
