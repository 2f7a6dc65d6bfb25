"""Windows of many pictures through one model, several at once, answers in the pictures' order."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np

from zeroseg_jax.inference import windows
from zeroseg_jax.inference.canvas import Grid, Scored
from zeroseg_jax.inference.presets import WHOLE_PICTURE, Preset
from zeroseg_jax.inference.segmenters import Segmenter

_WAITING_PICTURES = 32  # behind one whose windows have a rare shape, until that one is hurried
In, Out = TypeVar("In"), TypeVar("Out")


@dataclasses.dataclass
class Cut:
    """A picture made ready.

    Attributes:
      resized: float32 (H, W, 3) levels in [0, 255].
      grid: of its windows.
      item: whatever travels with it.
      scored: the answer to each window, None until it is there.
    """

    resized: np.ndarray
    grid: Grid
    item: Any = None
    scored: list[Scored | None] = dataclasses.field(default_factory=list)


def cut_picture(image: np.ndarray, preset: Preset, segmenter: Segmenter, item: Any = None) -> Cut:
    """Resize a picture and lay windows over it.

    Args:
      image: uint8 (H, W, 3).
      preset: sizes and resize rule.
      segmenter: its side and patch.
      item: kept beside it.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    height, width = image.shape[:2]
    patch = segmenter.patch_px
    short = preset.short_side_px or segmenter.native_px
    size = windows.resized_size(height, width, short)
    if preset.window_px == WHOLE_PICTURE:
        size = window = tuple(side // patch * patch for side in size)
        tops = lefts = [0]
        if not min(size):
            raise ValueError(f"preset: a short side of {short} px holds no patch of {patch} px.")
    else:
        side = preset.window_px or short
        stride = preset.stride_px or max(side // 2, 1)
        if side % patch or side > short:
            raise ValueError(
                f"preset: a window of {side} px must be a multiple of the patch of {patch} px and "
                f"no larger than the short side of {short} px; use --set "
                "window_px=...,short_side_px=..."
            )
        window = (side, side)
        tops, lefts = (windows.window_starts(length, side, stride) for length in size)
    resized = windows.resize_image(image, *size, preset.resize)
    grid = Grid(*size, window, tops, lefts)
    return Cut(resized, grid, item, [None] * (len(tops) * len(lefts)))


def score_windows(segmenter: Segmenter, cuts: Iterable[Cut], batch: int) -> Iterator[Cut]:
    """Score the windows of pictures, across pictures.

    Args:
      segmenter: the model.
      cuts: pictures made ready.
      batch: windows under way at once, besides those the host is putting together.

    Yields:
      The pictures in their order, every window scored.
    """
    queue = _Queue(segmenter, batch)
    waiting: collections.deque[Cut] = collections.deque()
    for cut in cuts:
        waiting.append(cut)
        queue.add(cut)
        if len(waiting) > _WAITING_PICTURES + batch:
            queue.hurry(waiting[0])
        while waiting and _is_done(waiting[0]):
            yield waiting.popleft()
    queue.finish()
    yield from waiting


class _Queue:
    """Windows grouped by shape into units, and units under way."""

    def __init__(self, segmenter: Segmenter, batch: int):
        self._segmenter = segmenter
        self._most_units = max(1, batch // segmenter.unit)
        self._groups: dict[tuple[int, ...], list] = collections.defaultdict(list)
        self._under_way: collections.deque = collections.deque()

    def add(self, cut: Cut) -> None:
        for number, area in enumerate(cut.grid.places()):
            group = self._groups[cut.grid.window]
            group.append((cut, number, cut.resized[area]))
            if len(group) == self._segmenter.unit:
                self._send(cut.grid.window)

    def hurry(self, cut: Cut) -> None:
        if self._groups[cut.grid.window]:
            self._send(cut.grid.window)
        while not _is_done(cut):
            self._collect()

    def finish(self) -> None:
        for shape in list(self._groups):
            if self._groups[shape]:
                self._send(shape)
        while self._under_way:
            self._collect()

    def _send(self, shape: tuple[int, ...]) -> None:
        group = self._groups.pop(shape)
        padding = [group[-1][2]] * (self._segmenter.unit - len(group))
        pixels = np.stack([window for _, _, window in group] + padding)
        places = [(cut, number) for cut, number, _ in group]
        self._under_way.append((places, self._segmenter.score(pixels)))
        if len(self._under_way) > self._most_units:
            self._collect()

    def _collect(self) -> None:
        places, scored = self._under_way.popleft()
        table = np.asarray(scored.table)
        winners = None if scored.winners is None else np.asarray(scored.winners)
        for i, (cut, number) in enumerate(places):
            chosen = None if winners is None else winners[i : i + 1]
            cut.scored[number] = Scored(table[i : i + 1], chosen)


def _is_done(cut: Cut) -> bool:
    return all(answer is not None for answer in cut.scored)


def run_ahead(
    pool: Executor, function: Callable[[In], Out], inputs: Iterable[In], most: int
) -> Iterator[Out]:
    """Map in a pool, in order, with at most so many results not yet taken."""
    pending: collections.deque = collections.deque()
    for value in inputs:
        pending.append(pool.submit(function, value))
        if len(pending) >= most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
