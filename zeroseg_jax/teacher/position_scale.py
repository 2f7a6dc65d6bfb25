"""Resizing of positions by a scale factor: DINO's rule, taken over by SCLIP and its successors."""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
    scale = jnp.array([(new + _OFFSET) / side for new in (h, w)])
    grid = positions.reshape(side, side, -1)
    resized = jax.image.scale_and_translate(
        grid, (h, w, grid.shape[-1]), (0, 1), scale, jnp.zeros(2), "cubic-pytorch", antialias=False
    )
    return resized.reshape(h * w, -1)
