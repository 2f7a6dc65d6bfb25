"""Corrections of a result on the web page: a region gets another class name, or is dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from scipy import ndimage

from zeroseg_jax.inference.background import BACKGROUND
from zeroseg_jax.inference.class_names import check_classes
from zeroseg_jax.inference.segmentation import Segmentation, index_dtype

MAX_EDITS = 32


@dataclasses.dataclass(frozen=True)
class Edit:
    """New class name of one region.

    Attributes:
      x, y: a point of the region, as fractions of width and height in [0, 1).
      word: class name; "" for background.
    """

    x: float
    y: float
    word: str


def read_edits(content: Sequence[Any], *, letters: int) -> list[Edit]:
    """Read edits from JSON: [{"x": 0.5, "y": 0.5, "word": "cat"}].

    Raises:
      ValueError: too many, or one that is wrong.
    """
    if len(content) > MAX_EDITS:
        raise ValueError(f"edits: {len(content)} are more than {MAX_EDITS}.")
    edits = []
    for one in content:
        if not isinstance(one, dict) or set(one) != {"x", "y", "word"}:
            raise ValueError("edits: each needs x, y and word, and nothing else.")
        x, y, word = one["x"], one["y"], one["word"]
        for field, at in (("x", x), ("y", y)):
            if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1:
                raise ValueError(f"edits: {field} must be a number from 0 to below 1.")
        if not isinstance(word, str):
            raise ValueError("edits: word must be text.")
        if word.strip():
            check_classes([[word.strip()]], "edits", letters=letters)
        edits.append(Edit(float(x), float(y), word.strip()))
    return edits


def apply_edits(result: Segmentation, edits: Sequence[Edit]) -> Segmentation:
    """Give regions other classes, one edit after the other.

    A region is the 4-connected component of one class around the point. Its score becomes 1, as
    a person said what it is.

    Args:
      result: answer of the model.
      edits: at most MAX_EDITS, see read_edits.

    Returns:
      A new Segmentation. New class names follow the old ones; "background" comes first if a
      region was dropped.
    """
    if not edits:
        return result
    names, mask, scores = list(result.class_names), result.mask.astype(int), result.scores.copy()
    if names[0] != BACKGROUND and any(not edit.word for edit in edits):
        names, mask = [BACKGROUND, *names], mask + 1
    height, width = mask.shape
    for edit in edits:
        word = edit.word or BACKGROUND
        if word not in names:
            names.append(word)
        at = int(edit.y * height), int(edit.x * width)
        components, _ = ndimage.label(mask == mask[at])
        inside = components == components[at]
        mask[inside], scores[inside] = names.index(word), 1.0
    return dataclasses.replace(
        result, class_names=tuple(names), mask=mask.astype(index_dtype(len(names))), scores=scores
    )
