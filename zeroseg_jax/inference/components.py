"""Removal of small connected components from a label map.

Components are 4-connected. The map is read once into horizontal runs of one label; what follows
works on runs, whose number is that of the borders and not of the pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse


def join_small(labels: np.ndarray, least_px: float) -> np.ndarray:
    """Give each small component the label of the large one that it has the longest border with.

    A small component between small ones waits until one of those has become large. If all are
    small, the largest counts as large.

    Args:
      labels: int (H, W).
      least_px: a component of fewer pixels is small.

    Returns:
      int32 (H, W), a copy; without a small component.
    """
    runs = _find_runs(labels)
    names, values = np.unique(runs.values, return_inverse=True)
    while True:
        same = values[runs.first] == values[runs.second]
        count, owner = _connect(runs.first[same], runs.second[same], len(values))
        sizes = np.bincount(owner, runs.lengths, count)
        small = sizes < least_px
        small[sizes.argmax()] = False
        if not small.any():
            break
        # Each place where runs touch, seen from both sides.
        here = np.concatenate([runs.first, runs.second])
        there = np.concatenate([runs.second, runs.first])
        counts = small[owner[here]] & ~small[owner[there]]
        target = np.full(count, -1)
        voters, winners = _elect(
            owner[here[counts]], values[there[counts]], np.tile(runs.borders, 2)[counts], len(names)
        )
        target[voters] = winners
        values = np.where(target[owner] < 0, values, target[owner])
    joined = np.repeat(names[values].astype(np.int32), runs.lengths)
    return joined.reshape(labels.shape)


class _Runs(NamedTuple):
    """Horizontal runs of a label map and where they touch.

    Attributes:
      values, lengths: int (R,), label and pixels of each run, row by row.
      first, second: int (T,), runs that touch.
      borders: int (T,), pixels along which they touch.
    """

    values: np.ndarray
    lengths: np.ndarray
    first: np.ndarray
    second: np.ndarray
    borders: np.ndarray


def _find_runs(labels: np.ndarray) -> _Runs:
    height, width = labels.shape
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=labels.size)
    # Runs of two rows touch along the stretches between two begins of either.
    stretches = np.flatnonzero(begins[1:] | begins[:-1])
    below = np.searchsorted(starts, stretches + width, side="right") - 1
    above = np.searchsorted(starts, stretches, side="right") - 1
    beside = np.flatnonzero(starts % width)
    return _Runs(
        labels.ravel()[starts],
        lengths,
        np.concatenate([above, beside - 1]),
        np.concatenate([below, beside]),
        np.concatenate(
            [np.diff(stretches, append=(height - 1) * width), np.ones(len(beside), np.int64)]
        ),
    )


def _connect(first: np.ndarray, second: np.ndarray, count: int) -> tuple[int, np.ndarray]:
    """Return the number of connected components of a graph, and the component of each node."""
    graph = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    number, owner = sparse.csgraph.connected_components(graph, directed=False)
    return number, owner


def _elect(
    voters: np.ndarray, labels: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voters, each once, and the label of `count` with most votes of each."""
    pairs, index = np.unique(voters * count + labels, return_inverse=True)
    totals = np.bincount(index, weights, len(pairs))
    order = np.lexsort((-pairs, totals, pairs // count))  # the first label of equals is last
    chosen = pairs[order]
    last = np.flatnonzero(np.diff(chosen // count, append=-1))
    return chosen[last] // count, chosen[last] % count
