"""The windows of one picture put together, without ever holding every class at every pixel.

A picture of 2048 x 1024 px and 171 classes would take 1.4 GB as one array of scores. What a model
says is much smaller: a few segments with a row of scores each, or a coarse grid. It is kept so,
averaged so where windows overlap, and spelled out only for the pixels being labelled.

Letters: H, W the resized picture; K scored words; S segments of a window; M distinct mixtures of
segments; h, w patch grid.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from zeroseg_jax.inference import windows
from zeroseg_jax.inference.ranking import Rule, rank

_BUDGET_FLOATS = 1 << 23  # scores spelled out at once: 32 MB


class Scored(NamedTuple):
    """What a model says of windows.

    Attributes:
      table: float32 (B, S, K), scores of each segment; of each patch, row by row, where
        winners is None.
      winners: int (B, Hpx, Wpx), the segment each pixel follows; None: pixels lie between
        patches.
    """

    table: np.ndarray
    winners: np.ndarray | None


class Canvas(Protocol):
    """One picture's scores."""

    size: tuple[int, int]
    words: int

    def label(self, height: int, width: int, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """Enlarge bilinearly and label: int32 and float32 (height, width)."""

    def channels(self, start: int, stop: int) -> np.ndarray:
        """Spell out float32 (H, W, stop - start)."""

    def mean_scores(self, inside: np.ndarray) -> np.ndarray:
        """Average over the pixels of a region, bool (H, W), not empty: float32 (K,)."""


class Grid(NamedTuple):
    """Where the windows of a picture lie: window i is at (tops[i // n], lefts[i % n])."""

    height: int
    width: int
    window: tuple[int, int]
    tops: list[int]
    lefts: list[int]

    def places(self) -> list[tuple[slice, slice]]:
        """List every window's area, row by row."""
        tall, wide = self.window
        return [np.s_[t : t + tall, x : x + wide] for t in self.tops for x in self.lefts]


def build_canvas(grid: Grid, scored: list[Scored], patch_px: int) -> Canvas:
    """Put windows together: Scored of B = 1 each, in the order of grid.places()."""
    if scored[0].winners is None:
        return PatchCanvas(grid, [one.table[0] for one in scored], patch_px)
    return SegmentCanvas(grid, scored)


class SegmentCanvas:
    """Pixels that follow segments: each has a row of a table of means over its windows."""

    def __init__(self, grid: Grid, scored: list[Scored]):
        self.size = (grid.height, grid.width)
        self.words = scored[0].table.shape[-1]
        # Where windows overlap, a pixel follows a mixture of their segments. Rows are added for
        # mixtures that occur, window by window.
        ids = np.zeros(self.size, np.int32)
        sums, counts = np.zeros((1, self.words), np.float32), np.zeros(1, np.float32)
        for area, (table, winners) in zip(grid.places(), scored, strict=True):
            segments = len(table[0])
            code = ids[area] * segments + winners[0]
            there = np.flatnonzero(np.bincount(code.ravel(), minlength=len(sums) * segments))
            rows = np.empty(len(sums) * segments, np.int32)
            rows[there] = len(sums) + np.arange(len(there), dtype=np.int32)
            ids[area] = rows[code]
            before = there // segments
            sums = np.concatenate([sums, sums[before] + table[0][there % segments]])
            counts = np.concatenate([counts, counts[before] + 1])
        used = np.flatnonzero(np.bincount(ids.ravel(), minlength=len(sums)))
        rows = np.zeros(len(sums), np.int32)
        rows[used] = np.arange(len(used), dtype=np.int32)
        self._ids = rows[ids]
        self._table = sums[used] / counts[used, None]

    def channels(self, start: int, stop: int) -> np.ndarray:
        """See Canvas."""
        return self._table[:, start:stop][self._ids]

    def mean_scores(self, inside: np.ndarray) -> np.ndarray:
        """See Canvas."""
        pixels = np.bincount(self._ids[inside], minlength=len(self._table)).astype(np.float32)
        return pixels @ self._table / pixels.sum()

    def label(self, height: int, width: int, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """See Canvas. A pixel between four of one row has that row's scores."""
        row_labels, row_best = rank(self._table, rule)
        if (height, width) == self.size:
            return row_labels[self._ids], row_best[self._ids]
        y0, y1, fy = windows.bilinear_taps(self.size[0], height)
        x0, x1, fx = windows.bilinear_taps(self.size[1], width)
        upper, lower = self._ids[y0], self._ids[y1]
        corners = [upper[:, x0], upper[:, x1], lower[:, x0], lower[:, x1]]
        labels, best = row_labels[corners[0]], row_best[corners[0]]
        mixed = (corners[0] != corners[1]) | (corners[0] != corners[2])
        mixed |= corners[0] != corners[3]
        rows, columns = np.nonzero(mixed)
        step = max(1, _BUDGET_FLOATS // self.words)
        for begin in range(0, len(rows), step):
            y, x = rows[begin : begin + step], columns[begin : begin + step]
            weights = (
                (1 - fy[y]) * (1 - fx[x]), (1 - fy[y]) * fx[x],
                fy[y] * (1 - fx[x]), fy[y] * fx[x],
            )  # fmt: skip
            scores = np.zeros((len(y), self.words), np.float32)
            for corner, weight in zip(corners, weights, strict=True):
                part = self._table[corner[y, x]]
                part *= weight[:, None]
                scores += part
            labels[y, x], best[y, x] = rank(scores, rule)
        return labels, best


class PatchCanvas:
    """Pixels that lie between patches.

    Enlarging a patch grid to its window, averaging windows that lie on a grid, and enlarging the
    whole are each a matrix for rows and one for columns, so all of it together is too.
    """

    def __init__(self, grid: Grid, tables: list[np.ndarray], patch_px: int):
        self.size = (grid.height, grid.width)
        self.words = tables[0].shape[-1]
        h, w = (side // patch_px for side in grid.window)
        self._rows = _place_windows(grid.height, grid.tops, grid.window[0], h)
        self._columns = _place_windows(grid.width, grid.lefts, grid.window[1], w)
        patches = np.stack(tables).reshape(len(grid.tops), len(grid.lefts), h, w, self.words)
        patches = patches.transpose(0, 2, 1, 3, 4)
        self._patches = np.ascontiguousarray(
            patches.reshape(len(grid.tops) * h, len(grid.lefts) * w, self.words), np.float32
        )

    def channels(self, start: int, stop: int) -> np.ndarray:
        """See Canvas."""
        return _spread(self._rows, self._patches[..., start:stop], self._columns)

    def mean_scores(self, inside: np.ndarray) -> np.ndarray:
        """See Canvas."""
        # What each patch counts in the region; spelling pixels out is not needed for a mean.
        shares = self._rows.T @ inside.astype(np.float32) @ self._columns / inside.sum()
        return np.tensordot(shares, self._patches, axes=2)

    def label(self, height: int, width: int, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """See Canvas."""
        rows = windows.bilinear_matrix(self.size[0], height) @ self._rows
        columns = windows.bilinear_matrix(self.size[1], width) @ self._columns
        labels, best = np.empty((height, width), np.int32), np.empty((height, width), np.float32)
        step = max(1, _BUDGET_FLOATS // (width * self.words))
        for top in range(0, height, step):
            scores = _spread(rows[top : top + step], self._patches, columns)
            found = rank(scores.reshape(-1, self.words), rule)
            labels[top : top + step], best[top : top + step] = (x.reshape(-1, width) for x in found)
        return labels, best


def _place_windows(length: int, starts: list[int], window: int, patches: int) -> np.ndarray:
    """Return float32 (length, windows * patches): patches to pixels, means where they overlap."""
    enlarge = windows.bilinear_matrix(patches, window)
    matrix = np.zeros((length, len(starts), patches), np.float32)
    for i, start in enumerate(starts):
        matrix[start : start + window, i] = enlarge
    covered = (matrix.sum(axis=2) > 0.5).sum(axis=1)
    return (matrix / covered[:, None, None]).reshape(length, -1)


def _spread(rows: np.ndarray, patches: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Multiply (n, P) by (P, Q, K) by (W, Q): float32 (n, W, K)."""
    p, q, k = patches.shape
    lines = (rows @ patches.reshape(p, q * k)).reshape(len(rows), q, k)
    # One product of matrices: a stack of small ones takes up to fifty times as long.
    wide = columns @ lines.transpose(1, 0, 2).reshape(q, len(rows) * k)
    return wide.reshape(len(columns), len(rows), k).transpose(1, 0, 2)


def spread_segments(grid: Grid, scored: list[Scored], height: int, width: int) -> np.ndarray:
    """Return int32 (height, width): ids of segments, different in each window.

    Where windows overlap the later one's ids stand. No window may be without winners.
    """
    ids, offset = np.zeros((grid.height, grid.width), np.int32), 0
    for area, (table, winners) in zip(grid.places(), scored, strict=True):
        ids[area] = winners[0].astype(np.int32) + offset
        offset += table.shape[1]
    rows = windows.nearest_places(grid.height, height)
    return ids[rows][:, windows.nearest_places(grid.width, width)]
