"""Windows of many images through one compiled shape, several at once, in the images' order."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np

from zeroseg_jax.inference import canvas, label_rules, windows
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Encoded, Scored
from zeroseg_jax.inference.segmenters import Segmenter, choose_scale
from zeroseg_jax.inference.windows import Layout

_MAX_WAITING = 32  # images queued after one with windows of a rare shape, which is then flushed
In = TypeVar("In")
Out = TypeVar("Out")
Rows = TypeVar("Rows", Encoded, Scored)


@dataclasses.dataclass
class WindowedImage:
    """An image resized and laid out, and the results of its windows.

    Attributes:
      resized: float32 (H, W, 3) in [0, 255].
      layout: layout of its windows.
      item: anything that belongs to the image.
      rows: arrays of each window, None until they are there.
    """

    resized: np.ndarray
    layout: Layout
    item: Any = None
    rows: list[tuple[np.ndarray | None, ...] | None] = dataclasses.field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """True when every window has its result."""
        return all(row is not None for row in self.rows)

    def stack(self, kind: type[Rows]) -> Rows:
        """Return the results of all windows as one Encoded or Scored of NumPy arrays."""
        columns: Iterable[Any] = zip(*(row for row in self.rows if row is not None), strict=True)
        arrays: list[Any] = [None if part[0] is None else np.stack(part) for part in columns]
        return kind(*arrays)


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image encoded before its classes are known; holds no full-size pixels.

    Attributes:
      size: (H, W) of the image, and of its labels.
      layout: layout of its windows.
      encoded: all windows, NumPy arrays.
      guide: uint8 (gh, gw, 3), the image at the size of guide_image.build_guide; None without
        refinement.
    """

    size: tuple[int, int]
    layout: Layout
    encoded: Encoded
    guide: np.ndarray | None

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        arrays = [*self.encoded, self.guide]
        return sum(array.nbytes for array in arrays if array is not None)


def resize_and_lay_out(
    image: np.ndarray, preset: Preset, segmenter: Segmenter, *, detail: int = 1, item: Any = None
) -> WindowedImage:
    """Resize an image and lay windows over it.

    Args:
      image: uint8 (H, W, 3).
      preset: sizes and resize rule.
      segmenter: its side and patch.
      detail: multiple of the short side, see windows.lay_out.
      item: anything that belongs to the image.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    height, width = image.shape[:2]
    layout = windows.lay_out(
        height, width, preset, image_px=segmenter.image_px, patch_px=segmenter.patch_px,
        detail=detail,
    )  # fmt: skip
    resized = windows.resize_image(image, layout.height, layout.width, preset.resize)
    return WindowedImage(resized, layout, item, [None] * len(layout.areas()))


def run_windows(
    run: Callable[[np.ndarray], tuple[Any, ...]],
    images: Iterable[WindowedImage],
    *,
    windows_per_call: int,
    batch: int = 1,
) -> Iterator[WindowedImage]:
    """Run a model on the windows of images, across images.

    Args:
      run: takes float32 (windows_per_call, H, W, 3); returns Encoded or Scored, and need not wait
        for the device.
      images: images laid out.
      windows_per_call: number of windows of a call.
      batch: number of windows in flight.

    Yields:
      The images in their order, with the rows of all windows.
    """
    queue = _Queue(run, windows_per_call, max(1, batch // windows_per_call))
    waiting: collections.deque[WindowedImage] = collections.deque()
    for image in images:
        waiting.append(image)
        queue.add(image)
        if len(waiting) > _MAX_WAITING + batch:
            queue.flush(waiting[0])
        while waiting and waiting[0].is_done:
            yield waiting.popleft()
    queue.finish()
    yield from waiting


def score_images(
    segmenter: Segmenter,
    images: Iterable[WindowedImage],
    classes: ClassVectors,
    preset: Preset,
    *,
    batch: int = 1,
) -> Iterator[WindowedImage]:
    """Encode and score the windows of images; see run_windows."""

    def run(pixels: np.ndarray) -> Scored:
        return segmenter.score(segmenter.encode(pixels), classes, preset)

    return run_windows(run, images, windows_per_call=segmenter.windows_per_call, batch=batch)


def score_encoded(
    segmenter: Segmenter, encoded: Encoded, classes: ClassVectors, preset: Preset
) -> Scored:
    """Score the cached windows of one image, as many at once as in evaluation.

    Args:
      segmenter: the model that encoded them.
      encoded: n windows, NumPy arrays.
      classes: class vectors.
      preset: naming, filter and scale.

    Returns:
      Scored of n windows, NumPy arrays.
    """
    count, step = len(encoded.features), segmenter.windows_per_call
    tables = []
    for start in range(0, count, step):
        index = np.minimum(np.arange(start, start + step), count - 1)
        features, global_feature, _ = encoded
        part = Encoded(
            features[index], None if global_feature is None else global_feature[index], None
        )
        tables.append(np.asarray(segmenter.score(part, classes, preset).table)[: count - start])
    return Scored(np.concatenate(tables), encoded.segment_ids)


def merge_windows(
    segmenter: Segmenter, layout: Layout, scored: Scored, classes: ClassVectors, preset: Preset
) -> tuple[canvas.SegmentCanvas | canvas.PatchCanvas, label_rules.LabelRule]:
    """Merge the scored windows of one image.

    Args:
      segmenter: the model that scored them.
      layout: layout of the windows.
      scored: all windows in the layout's order, NumPy arrays.
      classes: class vectors.
      preset: naming and background rules.

    Returns:
      The canvas, and the rule that labels its pixels.
    """
    scale = choose_scale(preset, segmenter.logit_scale)
    rule = label_rules.build_rule(preset, classes, scale, segmenter.seen_names)
    return canvas.merge(layout, scored, segmenter.patch_px, len(rule.class_ids)), rule


class _Queue:
    """Windows grouped by shape into calls, and calls in flight."""

    def __init__(self, run: Callable[[np.ndarray], tuple[Any, ...]], per_call: int, calls: int):
        self._run, self._per_call, self._max_calls = run, per_call, calls
        self._groups: dict[tuple[int, int], list[tuple[WindowedImage, int, np.ndarray]]] = {}
        self._in_flight: collections.deque[Any] = collections.deque()

    def add(self, image: WindowedImage) -> None:
        shape = image.layout.window
        for number, area in enumerate(image.layout.areas()):
            group = self._groups.setdefault(shape, [])
            group.append((image, number, image.resized[area]))
            if len(group) == self._per_call:
                self._send(shape)

    def flush(self, image: WindowedImage) -> None:
        if image.layout.window in self._groups:
            self._send(image.layout.window)
        while not image.is_done:
            self._collect()

    def finish(self) -> None:
        for shape in list(self._groups):
            self._send(shape)
        while self._in_flight:
            self._collect()

    def _send(self, shape: tuple[int, int]) -> None:
        group = self._groups.pop(shape)
        padding = [group[-1][2]] * (self._per_call - len(group))
        pixels = np.stack([window for _, _, window in group] + padding)
        owners = [(image, number) for image, number, _ in group]
        self._in_flight.append((owners, self._run(pixels)))
        if len(self._in_flight) > self._max_calls:
            self._collect()

    def _collect(self) -> None:
        owners, results = self._in_flight.popleft()
        arrays = [None if result is None else np.asarray(result) for result in results]
        for i, (image, number) in enumerate(owners):
            image.rows[number] = tuple(None if array is None else array[i] for array in arrays)


def run_ahead(
    pool: Executor, function: Callable[[In], Out], inputs: Iterable[In], limit: int
) -> Iterator[Out]:
    """Map in a pool, in order, with at most `limit` results that are not yet taken."""
    pending: collections.deque[Any] = collections.deque()
    for value in inputs:
        pending.append(pool.submit(function, value))
        if len(pending) >= limit:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
