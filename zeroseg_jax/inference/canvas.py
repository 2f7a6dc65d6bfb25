"""Merge the windows of one image without an (H, W, classes) array.

An image of 2048 x 1024 px and 171 classes would take 1.4 GB as one array of scores. Scores stay
per segment or per patch, overlaps are averaged in that form, and pixels are expanded in stripes.

Letters: H, W resized image; K scored rows; S segments of a window; M distinct mixtures of
segments; h, w patch grid of a window; P, Q patches of all windows, down and across.
"""

from __future__ import annotations

import numpy as np

from zeroseg_jax.inference import guided, windows
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.labelling import RunningArgmax, rank
from zeroseg_jax.inference.scoring import Scored
from zeroseg_jax.inference.windows import Layout

_BUDGET_FLOATS = 1 << 21  # scores expanded at once: 8 MB


def merge(layout: Layout, scored: Scored, patch_px: int, rows: int) -> SegmentCanvas | PatchCanvas:
    """Merge the windows of one image.

    Args:
      layout: layout of the windows.
      scored: all windows in the layout's order, as NumPy arrays.
      patch_px: side of a patch, in dense models.
      rows: K; further columns of the table are padding.
    """
    table = np.asarray(scored.table)[..., :rows]
    if scored.segment_ids is None:
        return PatchCanvas(layout, table, patch_px)
    segment_ids = np.asarray(scored.segment_ids)
    if layout.span:
        down, across = map(windows.nearest_places, layout.window, layout.span)
        segment_ids = segment_ids[:, down][:, :, across]
        layout = layout._replace(window=layout.span, span=None)
    return SegmentCanvas(layout, table, segment_ids)


class SegmentCanvas:
    """Canvas whose pixels follow segments; see labelling.Canvas for its methods.

    Where windows overlap, a pixel follows a mixture of their segments. Each mixture that occurs
    has a row in a table of mean scores.

    Args:
      layout: layout of the windows.
      table: float32 (n, S, K).
      segment_ids: int (n, Hpx, Wpx).
    """

    def __init__(self, layout: Layout, table: np.ndarray, segment_ids: np.ndarray):
        self.size = (layout.height, layout.width)
        self._window_ids = (layout, segment_ids, table.shape[1])
        segments, k = table.shape[1:]
        ids = np.zeros(self.size, np.int32)
        sums, counts = np.zeros((1, k), np.float32), np.zeros(1, np.float32)
        for area, own, chosen in zip(layout.areas(), table, segment_ids, strict=True):
            code = ids[area] * segments + chosen
            there = np.flatnonzero(np.bincount(code.ravel(), minlength=len(sums) * segments))
            index = np.empty(len(sums) * segments, np.int32)
            index[there] = len(sums) + np.arange(len(there), dtype=np.int32)
            ids[area] = index[code]
            before = there // segments
            sums = np.concatenate([sums, sums[before] + own[there % segments]])
            counts = np.concatenate([counts, counts[before] + 1])
        used = np.flatnonzero(np.bincount(ids.ravel(), minlength=len(sums)))
        index = np.zeros(len(sums), np.int32)
        index[used] = np.arange(len(used), dtype=np.int32)
        self._ids = index[ids]
        self._table = sums[used] / counts[used, None]

    def channels(self, rows: np.ndarray) -> np.ndarray:
        """See labelling.Canvas."""
        return self._table[:, rows][self._ids]

    def find_likely_rows(self, limit: int) -> np.ndarray:
        """See labelling.Canvas."""
        return _find_likely_rows(self._table, limit)

    def mean_scores(self, inside: np.ndarray) -> np.ndarray:
        """Average over the pixels of a region, bool (H, W), not empty: float32 (K,)."""
        pixels = np.bincount(self._ids[inside], minlength=len(self._table)).astype(np.float32)
        return pixels @ self._table / pixels.sum()

    def patches(self) -> np.ndarray:
        """See labelling.Canvas; pixels of a grid, each with the scores of its segment."""
        rows, columns = (
            windows.nearest_places(side, new)
            for side, new in zip(self.size, guided.guide_size(*self.size), strict=True)
        )
        return self._table[self._ids[rows][:, columns]]

    def segment_ids(self, height: int, width: int) -> np.ndarray:
        """Return int32 (height, width); where windows overlap, ids of the later one."""
        layout, window_ids, segments = self._window_ids
        ids = np.zeros(self.size, np.int32)
        for number, area in enumerate(layout.areas()):
            ids[area] = window_ids[number].astype(np.int32) + number * segments
        rows = windows.nearest_places(self.size[0], height)
        return ids[rows][:, windows.nearest_places(self.size[1], width)]

    def label(self, height: int, width: int, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        """See labelling.Canvas. A pixel between four pixels of one row has that row's scores."""
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
        step = max(1, _BUDGET_FLOATS // self._table.shape[1])
        for begin in range(0, len(rows), step):
            y, x = rows[begin : begin + step], columns[begin : begin + step]
            weights = (
                (1 - fy[y]) * (1 - fx[x]), (1 - fy[y]) * fx[x],
                fy[y] * (1 - fx[x]), fy[y] * fx[x],
            )  # fmt: skip
            scores = np.zeros((len(y), self._table.shape[1]), np.float32)
            for corner, weight in zip(corners, weights, strict=True):
                part = self._table[corner[y, x]]
                part *= weight[:, None]
                scores += part
            labels[y, x], best[y, x] = rank(scores, rule)
        return labels, best


class PatchCanvas:
    """Canvas whose pixels are interpolated between patches; see labelling.Canvas.

    Upsampling patches to their window, averaging overlaps and upsampling the whole are each one
    matrix for rows and one for columns. So is their product.

    Args:
      layout: layout of the windows.
      table: float32 (n, h * w, K).
      patch_px: side of a patch.
    """

    def __init__(self, layout: Layout, table: np.ndarray, patch_px: int):
        self.size = (layout.height, layout.width)
        self._span, self._patch_px = layout.span or layout.window, patch_px
        h, w = (side // patch_px for side in layout.window)
        self._down = _place_windows(layout.height, layout.tops, self._span[0], h)
        self._across = _place_windows(layout.width, layout.lefts, self._span[1], w)
        down, across, k = len(layout.tops), len(layout.lefts), table.shape[-1]
        patches = table.reshape(down, across, h, w, k).transpose(0, 2, 4, 1, 3)
        # (P, K, Q): then both products below are of plain matrices, without a transpose.
        self._patches = np.ascontiguousarray(patches, np.float32).reshape(down * h, k, across * w)

    def channels(self, rows: np.ndarray) -> np.ndarray:
        """See labelling.Canvas."""
        patches = self._patches[:, rows]
        return _expand(self._down, patches, self._across).transpose(0, 2, 1)

    def find_likely_rows(self, limit: int) -> np.ndarray:
        """See labelling.Canvas."""
        return _find_likely_rows(
            self._patches.transpose(0, 2, 1).reshape(-1, self._patches.shape[1]), limit
        )

    def mean_scores(self, inside: np.ndarray) -> np.ndarray:
        """Average over the pixels of a region, bool (H, W), not empty: float32 (K,)."""
        # Weight of each patch in the region's mean; no pixel is expanded.
        shares = self._down.T @ inside.astype(np.float32) @ self._across / inside.sum()
        return np.tensordot(shares, self._patches, axes=([0, 1], [0, 2]))

    def patches(self) -> np.ndarray:
        """See labelling.Canvas; exact for one window, interpolated between several."""
        height, width = self.size
        if (height, width) == self._span:
            return self._patches.transpose(0, 2, 1)
        down = windows.bilinear_matrix(height, max(1, round(height / self._patch_px))) @ self._down
        across = windows.bilinear_matrix(width, max(1, round(width / self._patch_px)))
        return _expand(down, self._patches, across @ self._across).transpose(0, 2, 1)

    def segment_ids(self, height: int, width: int) -> None:
        """Return None: a dense model has no segments."""

    def label(self, height: int, width: int, rule: LabelRule) -> tuple[np.ndarray, np.ndarray]:
        """See labelling.Canvas."""
        down = windows.bilinear_matrix(self.size[0], height) @ self._down
        across = windows.bilinear_matrix(self.size[1], width) @ self._across
        rows = np.arange(self._patches.shape[1])
        running = RunningArgmax(rule, (height, width))
        step = max(1, _BUDGET_FLOATS // (width * len(rows)))
        for top in range(0, height, step):
            stripe = np.s_[top : top + step]
            scores = _expand(down[stripe], self._patches, across)
            running.add(list(scores.transpose(1, 0, 2)), rows, stripe)
        return running.finish()


def _place_windows(length: int, starts: list[int], window: int, patches: int) -> np.ndarray:
    """Return float32 (length, windows * patches): patches to pixels, means where they overlap."""
    upsample = windows.bilinear_matrix(patches, window)
    matrix = np.zeros((length, len(starts), patches), np.float32)
    for i, start in enumerate(starts):
        matrix[start : start + window, i] = upsample
    covered = (matrix.sum(axis=2) > 0.5).sum(axis=1)
    return (matrix / covered[:, None, None]).reshape(length, -1)


def _expand(down: np.ndarray, patches: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Multiply (n, P) by (P, K, Q) by (W, Q): float32 (n, K, W)."""
    p, k, q = patches.shape
    lines = down @ patches.reshape(p, k * q)
    # One product of matrices: a stack of small ones is up to fifty times slower.
    return (lines.reshape(len(down) * k, q) @ across.T).reshape(len(down), k, len(across))


def _find_likely_rows(table: np.ndarray, limit: int) -> np.ndarray:
    """Return the columns of (M, K) that win a line, and the highest others up to `limit`."""
    if table.shape[1] <= limit:
        return np.arange(table.shape[1])
    wins = np.zeros(table.shape[1], bool)
    wins[table.argmax(axis=1)] = True
    order = np.lexsort((-table.max(axis=0), ~wins))
    return np.sort(order[: max(limit, wins.sum())])
