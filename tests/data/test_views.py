"""Grid views that tile the image, or overlap by half."""

import numpy as np

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.views import grid_windows, list_windows


def test_windows_tile_or_overlap():
    assert grid_windows((1, 2), False)[1:3] == [(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1.0)]
    counts = [len(grid_windows((n,), True)) for n in (1, 2, 3, 4)]
    assert counts == [1, 9, 25, 49]
    for top, left, bottom, right in grid_windows((1, 2, 3, 4), True):
        assert 0 <= top < bottom <= 1 + 1e-9 and 0 <= left < right <= 1 + 1e-9
        assert np.isclose(bottom - top, right - left)


def test_cells_cover_each_point_once():
    points = np.random.default_rng(0).uniform(0, 1, (200, 2))
    windows = np.array(grid_windows((3,), False))
    inside = (points[:, None] >= windows[:, :2]) & (points[:, None] < windows[:, 2:])
    assert (inside.all(2).sum(1) == 1).all()


def test_a_config_lists_its_grids():
    config = from_mapping({"teacher": {"grids": (1, 3), "overlap": False}})
    assert list_windows(config) == grid_windows((1, 3), False)
    assert len(list_windows(config)) == 10
