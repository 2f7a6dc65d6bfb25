"""Positions by DINO's scale factor against torch."""

import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.models.layers import resize_positions
from zeroseg_jax.teacher.position_scale import resize_by_scale


@pytest.mark.parametrize("grid", [(28, 28), (21, 30), (5, 4)])
def test_positions_by_scale_are_torchs_with_a_scale_factor(grid):
    """DINO's rule, which SCLIP, ClearCLIP, NACLIP and ProxyCLIP took over."""
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    table = np.random.default_rng(0).normal(size=(14 * 14, 6)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(table).reshape(1, 14, 14, 6).permute(0, 3, 1, 2), mode="bicubic",
        scale_factor=tuple((side + 0.1) / 14 for side in grid),
    )[0].permute(1, 2, 0)  # fmt: skip
    assert wanted.shape[:2] == grid
    found = resize_by_scale(jnp.asarray(table), *grid)
    np.testing.assert_allclose(found, wanted.reshape(-1, 6).numpy(), atol=1e-5)
    assert np.abs(found - resize_positions(jnp.asarray(table), *grid)).max() > 1e-2
    native = resize_by_scale(jnp.asarray(table), 14, 14)
    np.testing.assert_array_equal(native, table)
