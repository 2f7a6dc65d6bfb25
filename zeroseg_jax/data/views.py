"""Geometry of the grid views: windows of an image in units of its side."""

from __future__ import annotations

from zeroseg_jax.config import Config

Window = tuple[float, float, float, float]


def grid_windows(grids: tuple[int, ...], overlap: bool) -> list[Window]:
    """List the views of an image, grid by grid, rows before columns.

    Args:
      grids: cells along a side, n >= 1 for each grid.
      overlap: False for n x n cells; True for windows of a cell's size at half its stride,
        (2n - 1)^2 of them.

    Returns:
      (top, left, bottom, right) of each view, in [0, 1].

    Source: ZeroSeg, multi-scale views (n x n grids); the overlap is own.
    """
    windows = []
    for n in grids:
        half = 2 if overlap else 1
        starts = [i / (half * n) for i in range(half * (n - 1) + 1)]
        windows += [(top, left, top + 1 / n, left + 1 / n) for top in starts for left in starts]
    return windows


def list_windows(config: Config) -> list[Window]:
    """List the views that a config's teacher encodes; see grid_windows."""
    return grid_windows(config.teacher.grids, config.teacher.overlap)
