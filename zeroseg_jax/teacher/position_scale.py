"""Resizing of positions by a scale factor: DINO's rule, taken over by SCLIP and its successors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_OFFSET = 0.1


def resize_by_scale(positions: Array, h: int, w: int) -> Array:
    """Resize positions of a square grid (side * side, D) to (h * w, D), bicubically.

    The factor is (h + 0.1) / side, so that samples are slightly closer than the grid asks for.
    Positions of an unchanged grid are returned as given.

    Source: interpolate_pos_encoding of DINO, SCLIP, ClearCLIP, NACLIP, ProxyCLIP and SC-CLIP.
    """
    side = int(round(positions.shape[0] ** 0.5))
    if (h, w) == (side, side):
        return positions
    grid = positions.reshape(side, side, -1)
    down, across = (_cubic_matrix(side, new) for new in (h, w))
    return jnp.einsum("hs,wt,std->hwd", down, across, grid).reshape(h * w, -1)


def _cubic_matrix(old: int, new: int) -> np.ndarray:
    """Return float32 (new, old): torch's bicubic with scale_factor (new + 0.1) / old."""
    a, step = -0.75, old / (new + _OFFSET)
    matrix = np.zeros((new, old), np.float32)
    for i, place in enumerate((np.arange(new) + 0.5) * step - 0.5):
        low = int(np.floor(place))
        for tap in range(low - 1, low + 3):
            x = abs(place - tap)
            near = ((a + 2) * x - (a + 3)) * x * x + 1
            far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
            matrix[i, min(max(tap, 0), old - 1)] += near if x <= 1 else far
    return matrix
