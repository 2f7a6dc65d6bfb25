"""Regions of the fused label map on the student's grid: shares of cells, means of features.

Letters: B images, P cells of the student's grid, C seen classes and latent regions, E teacher
width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array
_NORM_EPS = 1e-6


def region_members(fused: Array, h: int, w: int, classes: int) -> Array:
    """Return the share of each cell of the student's grid inside each region.

    Args:
      fused: int (B, H, W), -1 to classes - 1; H and W are multiples of h and w.
      h, w: height and width of the student's grid.
      classes: C.

    Returns:
      float32 (B, h * w, C), rows sum to at most 1.
    """
    b, height, width = fused.shape
    blocks = fused.reshape(b, h, height // h, w, width // w)
    members = jax.nn.one_hot(blocks, classes, dtype=jnp.float32).mean(axis=(2, 4))
    return members.reshape(b, h * w, classes)


def region_means(dense: Array, members: Array) -> tuple[Array, Array]:
    """Average dense features over regions.

    Args:
      dense: (B, P, E).
      members: float32 (B, P, C), from region_members.

    Returns:
      means: float32 (B, C, E), zeros for empty regions.
      present: bool (B, C), False for empty regions.
    """
    area = members.sum(axis=1)
    sums = jnp.einsum("bpc,bpe->bce", members, dense.astype(jnp.float32))
    return sums / jnp.maximum(area, _NORM_EPS)[..., None], area > 0
