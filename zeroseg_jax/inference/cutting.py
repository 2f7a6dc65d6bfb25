"""A picture in segments that have no name yet: the part of the work that words do not change."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import threading
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from zeroseg_jax.inference import model as build
from zeroseg_jax.inference import painting, windows
from zeroseg_jax.inference import scoring as assign
from zeroseg_jax.inference.presets import WHOLE_PICTURE, Preset
from zeroseg_jax.models.zeroseg import student as students

_MOST_DETAIL_PX = 2048  # of the short side: what windows are laid over stays in memory
_LONGEST = 2.0  # times as long as wide: up to here a picture is seen whole
_ACCELERATOR_BATCH = 16
_KEPT_CUTS = 32


@dataclasses.dataclass(frozen=True)
class Cut:
    """A picture in segments that have no name yet; small, whatever the picture's size.

    Attributes:
      size: (H, W) of the picture.
      laid_px: (h, w) that windows are laid over.
      corners: (top, left) of each of n windows.
      segments, global_feature: float32 (n, S, E) and (n, E), of the student.
      owners: uint8 (n, wh, ww), the segment of each pixel of a window; int32 past 256 segments.
      guide: uint8 (gh, gw, 3), the picture at the size at which scores follow its edges.
    """

    size: tuple[int, int]
    laid_px: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    segments: np.ndarray
    global_feature: np.ndarray
    owners: np.ndarray
    guide: np.ndarray


class Cutter:
    """Cuts pictures with one student under one preset.

    A picture is seen whole, at its own aspect and as many patches as the student was trained on,
    where the preset's window is WHOLE_PICTURE, the picture is no longer than twice its width and
    no detail is asked for; else square windows are laid over it. A program compiles at the first
    picture of its shape, and there are few shapes, as sides are multiples of the patch.

    Args:
      student: with its teacher.
      preset: sizes, resize rule and how segments are scored.

    Raises:
      ValueError: a window that does not fit the patch or the short side.

    Attributes:
      window_px: side of a square window.
      run_student: windows (B, wh, ww, 3) of levels in [0, 255] to segments (B, S, E),
        global_feature (B, E) and owners uint8 (B, wh, ww).
      score_segments: segments, global_feature, text (C, E) and how many of the last classes are
        background to scores (B, S, C).
    """

    def __init__(self, student: build.TrainedStudent, preset: Preset):
        self._preset, self._native_px = preset, student.config.model.image_px
        self.window_px = _check_window(preset, student)
        self._patch_px = student.config.model.encoder.patch_px
        self._kept = Kept(_KEPT_CUTS)
        self._batch = 1 if jax.default_backend() == "cpu" else _ACCELERATOR_BATCH
        self.run_student, self.score_segments = _build_programs(student, preset)

    def forget(self) -> None:
        """Drop the cuts that are kept."""
        self._kept = Kept(_KEPT_CUTS)

    def score(self, cut: Cut, text: np.ndarray, behind: int) -> np.ndarray:
        """Score segments for words.

        Args:
          cut: n windows of S segments.
          text: float32 (C, E), unit rows.
          behind: how many of the last classes are background.

        Returns:
          float32 (n, S, C), or (n, S, 1 + C - behind) with background first.
        """
        windows = zip(cut.segments, cut.global_feature, strict=True)
        return np.concatenate(
            [np.asarray(self.score_segments(s[None], g[None], text, behind)) for s, g in windows]
        )

    def cut(self, pictures: Sequence[np.ndarray], *, detail: int = 1) -> list[Cut]:
        """Cut uint8 (H, W, 3) pictures into segments without names; recent ones are kept.

        Raises:
          ValueError: a detail out of range.
        """
        native = self._preset.short_side_px or self._native_px
        most = max(1, _MOST_DETAIL_PX // native)
        if not isinstance(detail, int) or not 1 <= detail <= most:
            raise ValueError(f"detail: {detail} is not a whole number between 1 and {most}.")
        keys = [_digest(picture, detail) for picture in pictures]
        found = [self._kept.get(key) for key in keys]
        missing = [i for i, cut in enumerate(found) if cut is None]
        made = self._cut_all([pictures[i] for i in missing], detail)
        for i, cut in zip(missing, made, strict=True):
            found[i] = cut
            self._kept.put(keys[i], cut)
        return found

    def _cut_all(self, pictures: list[np.ndarray], detail: int) -> list[Cut]:
        laid, tiles = [], []
        for picture in pictures:
            size, window, corners = self._lay(*picture.shape[:2], detail)
            levels = windows.resize_image(picture, *size, self._preset.resize)
            tiles += [levels[y : y + window[0], x : x + window[1]] for y, x in corners]
            laid.append((picture, size, corners))
        rows = self._run(tiles)
        cuts, start = [], 0
        for picture, size, corners in laid:
            own = [np.stack(part) for part in zip(*rows[start : start + len(corners)], strict=True)]
            start += len(corners)
            height, width = painting.guide_size(*picture.shape[:2], self._preset)
            guide = windows.resize_image(picture, height, width, "antialiased")
            guide = np.clip(np.rint(guide), 0, 255).astype(np.uint8)
            cuts.append(Cut(picture.shape[:2], size, corners, *own, guide))
        return cuts

    def _lay(
        self, height: int, width: int, detail: int
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[tuple[int, int], ...]]:
        """Return the size a picture is brought to, that of a window, and windows' corners."""
        native, window = self._preset.short_side_px or self._native_px, self.window_px
        aspect = height / width
        if (
            self._preset.window_px == WHOLE_PICTURE
            and detail == 1
            and 1 / _LONGEST <= aspect <= _LONGEST
        ):
            rows = max(1, round(native / self._patch_px * aspect**0.5))
            columns = max(1, round(native / self._patch_px / aspect**0.5))
            size = (rows * self._patch_px, columns * self._patch_px)
            return size, size, ((0, 0),)
        size = windows.resized_size(height, width, native * detail)
        stride = self._preset.stride_px or window // 2
        corners = tuple(
            (top, left)
            for top in windows.window_starts(size[0], window, stride)
            for left in windows.window_starts(size[1], window, stride)
        )
        return size, (window, window), corners

    def _run(self, tiles: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
        """Run the student on tiles, so many of a shape at a time, always in one batch size."""
        found: list[Any] = [None] * len(tiles)
        shapes = {tile.shape for tile in tiles}
        for shape in sorted(shapes):
            places = [i for i, tile in enumerate(tiles) if tile.shape == shape]
            for start in range(0, len(places), self._batch):
                group = places[start : start + self._batch]
                padded = group + group[-1:] * (self._batch - len(group))
                outputs = self.run_student(np.stack([tiles[i] for i in padded]))
                for i, *row in zip(group, *map(np.asarray, outputs), strict=False):
                    found[i] = tuple(row)
        return found


class Kept:
    """The most recent entries, for any number of threads."""

    def __init__(self, limit: int):
        self._limit, self._lock = limit, threading.Lock()
        self._entries: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    def get(self, key: Hashable) -> Any:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._entries[key] = value
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)


def _check_window(preset: Preset, student: build.TrainedStudent) -> int:
    model = student.config.model
    short = preset.short_side_px or model.image_px
    window = short if preset.window_px == WHOLE_PICTURE else preset.window_px or short
    if window % model.encoder.patch_px or window > short:
        raise ValueError(
            f"--set: a window of {window} px must be a multiple of the patch of "
            f"{model.encoder.patch_px} px and no larger than the short side of {short} px."
        )
    return window


def _build_programs(student: build.TrainedStudent, preset: Preset) -> tuple[Any, Any]:
    """Return what cuts windows and what scores segments; each compiles at its first call."""
    config = student.config
    module = students.build_student(config.model)
    mean, std = (np.array(v, np.float32) for v in (config.data.mean, config.data.std))
    scale = min(preset.logit_scale or student.teacher.logit_scale, 100.0)

    @jax.jit
    def cut_windows(params, tiles):
        outputs = students.apply_segment(module, params, (tiles / 255 - mean) / std)
        owners = assign.choose_segments(outputs.maps, tiles.shape[1:3])
        return outputs.segments, outputs.global_feature, owners

    @functools.partial(jax.jit, static_argnums=3)
    def score(segments, global_feature, text, behind):
        outputs = students.SegmentOutputs(segments, global_feature, None)
        scores = assign.score_segments(
            outputs, text, scale=scale, image_filter=preset.image_filter, topk=preset.topk
        )
        return assign.merge_background(scores, behind) if behind else scores

    return functools.partial(cut_windows, student.params), score


def _digest(picture: np.ndarray, detail: int) -> Hashable:
    content = np.ascontiguousarray(picture)
    return picture.shape, detail, hashlib.blake2b(content, digest_size=16).digest()
