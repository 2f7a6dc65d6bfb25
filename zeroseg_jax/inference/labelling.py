"""Labels of an image from its merged scores: refine (PAMR, guided filter), upsample, decide.

How a pixel gets its class is decided here alone, for Predictor, page and evaluation. PAMR
compiles for few sizes: a guide at the image's size is padded to multiples of 32 px without effect,
one at a limited short side is resized to such multiples. Letters: H, W image;
K rows that are scored (classes, or their names); n places.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from zeroseg_jax.inference import guided, pamr, vocabulary, windows
from zeroseg_jax.inference.guide_image import STEP_PX, resize_guide
from zeroseg_jax.inference.label_rules import LabelRule, drop_small, forbid
from zeroseg_jax.inference.presets import Preset

_REFINED_ROWS = 32  # rows that PAMR refines: more cost time and hardly ever win a pixel
_STRIPE_PIXELS = 60_000  # upsampled at once, so that a stripe stays in the processor's cache


class LabelledImage(NamedTuple):
    """Labels of an image at its own size.

    Attributes:
      labels: int32 (H, W), class of each pixel.
      scores: float32 (H, W), probability of that class.
      segment_ids: int32 (H, W), segment of each pixel before refinement; the labels in dense
        models, which have no segments.
    """

    labels: np.ndarray
    scores: np.ndarray
    segment_ids: np.ndarray


class Canvas(Protocol):
    """The merged scores of one image; see canvas.py.

    Attributes:
      size: (h, w) of the resized image.
    """

    size: tuple[int, int]

    def label(self, height: int, width: int, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        """Upsample bilinearly and decide: int32 labels and float32 scores (height, width)."""

    def channels(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of some rows at every pixel, float32 (h, w, len(rows))."""

    def find_likely_rows(self, limit: int) -> np.ndarray:
        """Return the rows that win anywhere, and the highest others up to `limit`, ascending."""

    def patches(self) -> np.ndarray:
        """Return the scores on a grid of one place a patch, float32 (h, w, K)."""

    def segment_ids(self, height: int, width: int) -> np.ndarray | None:
        """Return int32 (height, width), different ids in each window; None without segments."""


def label_image(
    canvas: Canvas,
    size: tuple[int, int],
    rule: LabelRule,
    preset: Preset,
    guide: np.ndarray | None,
) -> LabelledImage:
    """Label every pixel of an image.

    Args:
      canvas: merged scores.
      size: (H, W) of the labels.
      rule: rule from build_rule.
      preset: refinement, area threshold and share of the vocabulary.
      guide: image from guide_image.build_guide; None labels without refinement. For the
        guided filter, any size of the image.
    """
    if preset.vocabulary_share:
        kept = vocabulary.find_supported(
            canvas.patches(), rule.class_ids, preset.vocabulary_share,
            softmax_scale=rule.softmax_scale, has_background=rule.has_background,
        )  # fmt: skip
        rule = forbid(rule, ~kept)
    refiner: _Refiner | _GuidedRefiner | None = None
    if guide is not None:
        kind = _GuidedRefiner if preset.refine == "guided" else _Refiner
        refiner = kind(canvas, guide, preset)

    def label(rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        return canvas.label(*size, rule) if refiner is None else refiner.label(size, rule)

    labels, scores = label(rule)
    if preset.area_threshold and rule.has_background:
        # Classes are measured as they win, before the threshold takes pixels away.
        measured = labels
        if rule.threshold:
            measured = label(dataclasses.replace(rule, threshold=0.0))[0]
        stricter = drop_small(measured, rule, preset.area_threshold)
        if stricter is not None:
            labels, scores = label(stricter)
    segment_ids = canvas.segment_ids(*size)
    return LabelledImage(labels, scores, labels if segment_ids is None else segment_ids)


class _Refiner:
    """PAMR at the guide's size, a few rows at a time; portrait guides are transposed."""

    def __init__(self, canvas: Canvas, guide: np.ndarray, preset: Preset):
        self._canvas, self._preset = canvas, preset
        self._size = guide.shape[:2]
        self._portrait = guide.shape[0] > guide.shape[1]
        pixels = guide.swapaxes(0, 1) if self._portrait else guide
        self._padding = [(0, -side % STEP_PX) for side in pixels.shape[:2]]
        self._weights = pamr.weigh_neighbours(
            self._pad(pixels).astype(np.float32), dilations=preset.pamr_dilations
        )

    def label(self, size: tuple[int, int], rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        """Refine, upsample and decide: int32 labels and float32 scores (H, W)."""
        rows = np.arange(len(rule.class_ids))
        if not rule.softmax_scale and rule.allowed is None:
            rows = self._canvas.find_likely_rows(_REFINED_ROWS)
        running = RunningArgmax(rule, size)
        for start in range(0, len(rows), pamr.CHANNELS_AT_ONCE):
            part = rows[start : start + pamr.CHANNELS_AT_ONCE]
            _add_upsampled(running, self._refine(self._canvas.channels(part)), part, size)
        return running.finish()

    def _refine(self, scores: np.ndarray) -> np.ndarray:
        scores = windows.resize_floats(scores, *self._size)
        scores = scores.swapaxes(0, 1) if self._portrait else scores
        height, width = scores.shape[:2]
        refined = pamr.refine_part(
            self._pad(scores),
            self._weights,
            (height, width),
            dilations=self._preset.pamr_dilations,
            iterations=self._preset.pamr_iterations,
        )[:height, :width]
        return refined.swapaxes(0, 1) if self._portrait else refined

    def _pad(self, values: np.ndarray) -> np.ndarray:
        return np.pad(values, (*self._padding, (0, 0)), mode="edge")


class _GuidedRefiner:
    """The guided filter of guided.py."""

    def __init__(self, canvas: Canvas, guide: np.ndarray, preset: Preset):
        self._patches, self._guide, self._preset = canvas.patches(), guide, preset

    def label(self, size: tuple[int, int], rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        """Filter and decide: int32 labels and float32 scores (H, W)."""
        if self._guide.shape[:2] != size:
            self._guide = resize_guide(self._guide, *size)
        return guided.label_patches(
            self._patches, self._guide, rule.class_ids,
            radius=self._preset.guided_radius, eps=self._preset.guided_eps,
            softmax_scale=rule.softmax_scale, allowed=rule.allowed, threshold=rule.threshold,
        )  # fmt: skip


def _add_upsampled(
    running: RunningArgmax, scores: np.ndarray, rows: np.ndarray, size: tuple[int, int]
) -> None:
    """Upsample float32 (h, w, k) to (H, W) a stripe at a time, and rank the rows."""
    low, high, down = windows.bilinear_taps(scores.shape[0], size[0])
    left, right, across = windows.bilinear_taps(scores.shape[1], size[1])
    maps = np.ascontiguousarray(scores.transpose(2, 0, 1))
    step = max(1, _STRIPE_PIXELS // size[1])
    for top in range(0, size[0], step):
        stripe = np.s_[top : top + step]
        weight = down[stripe, None]
        values = []
        for channel in maps:
            lines = channel[low[stripe]]
            lines += (channel[high[stripe]] - lines) * weight
            value = lines.take(left, axis=1)
            value += (lines.take(right, axis=1) - value) * across
            values.append(value)
        running.add(values, rows, stripe)


class RunningArgmax:
    """Best row of each pixel, found with the rows given in parts.

    Args:
      rule: rule by which scores become labels.
      size: (H, W).
    """

    def __init__(self, rule: LabelRule, size: tuple[int, int]):
        self._rule = rule
        # With a discount, seen rows compete in maps of their own.
        maps = 1 if rule.seen is None else 2
        self._best = np.full((maps, *size), -np.inf, np.float32)
        self._winner = np.zeros((maps, *size), np.int32)
        if rule.softmax_scale:
            self._highest = np.full(size, -np.inf, np.float32)
            self._sum = np.zeros(size, np.float32)

    def add(self, values: list[np.ndarray], rows: np.ndarray, stripe: slice) -> None:
        """Rank float32 (height, W) of each of `rows`; the first of equals stays."""
        allowed, seen = self._rule.allowed, self._rule.seen
        best, winner = self._best[:, stripe], self._winner[:, stripe]
        for row, value in zip(rows, values, strict=True):
            if allowed is None or allowed[row]:
                number = 0 if seen is None else int(seen[row])
                np.copyto(winner[number], row, where=value > best[number], casting="unsafe")
                np.maximum(best[number], value, out=best[number])
        if self._rule.softmax_scale:
            self._add_to_softmax(np.stack(values), stripe)

    def _add_to_softmax(self, values: np.ndarray, stripe: slice) -> None:
        scale = np.float32(self._rule.softmax_scale)
        before, total = self._highest[stripe], self._sum[stripe]
        highest = np.maximum(before, values.max(axis=0))
        kept = np.where(total > 0, np.exp(scale * (before - highest)), 0)
        values -= highest
        values *= scale
        self._sum[stripe] = total * kept + np.exp(values, out=values).sum(axis=0)
        self._highest[stripe] = highest

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return int32 (H, W) labels and float32 (H, W) probabilities."""
        best, winner = self._best[0], self._winner[0]
        if self._rule.seen is not None:
            discounted = _discount(self._best[1], best, self._rule)
            best = np.where(discounted, self._best[1], best)
            winner = np.where(discounted, self._winner[1], winner)
        if self._rule.softmax_scale:
            scale = np.float32(self._rule.softmax_scale)
            best = np.exp(scale * (best - self._highest)) / self._sum
        return _decide(winner, best, self._rule)


def rank(scores: np.ndarray, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
    """Decide for n places at once.

    Args:
      scores: float32 (n, K).
      rule: rule by which scores become labels.

    Returns:
      int32 (n,) labels and float32 (n,) probabilities.
    """
    allowed = scores if rule.allowed is None else np.where(rule.allowed, scores, -np.inf)
    winner = allowed.argmax(axis=1)
    if rule.seen is not None:
        seen, unseen = (np.where(rule.seen == kind, allowed, -np.inf) for kind in (True, False))
        discounted = _discount(seen.max(axis=1), unseen.max(axis=1), rule)
        winner = np.where(discounted, seen.argmax(axis=1), unseen.argmax(axis=1))
    best = np.take_along_axis(scores, winner[:, None], axis=1)[:, 0]
    if rule.softmax_scale:
        scale = np.float32(rule.softmax_scale)
        highest = scores.max(axis=1)
        terms = scores - highest[:, None]
        terms *= scale
        best = np.exp(scale * (best - highest)) / np.exp(terms, out=terms).sum(axis=1)
    return _decide(winner, best, rule)


def _discount(seen: np.ndarray, unseen: np.ndarray, rule: LabelRule) -> np.ndarray:
    """Return where the best seen row wins in spite of the discount, bool, from best scores."""
    scale = float(rule.softmax_scale)
    # In float64; -inf, where no row of a kind is left, stays the lowest.
    first, second = (
        np.where(np.isfinite(best), special.expit(scale * best.astype(np.float64)), -np.inf)
        for best in (seen, unseen)
    )
    return first - rule.seen_discount > second


def _decide(winner: np.ndarray, best: np.ndarray, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
    labels = rule.class_ids[winner]
    if rule.threshold:
        labels = np.where(best < rule.threshold, 0, labels)
    return labels.astype(np.int32, copy=False), best
