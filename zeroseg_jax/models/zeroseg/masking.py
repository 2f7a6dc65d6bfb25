"""Random masking of patches (MAE, section 3; ZeroSeg, section 3.1).

Letters: B images, P patches, K visible ones, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import gather_patches

Array = jax.Array


def count_visible(patches: int, mask_ratio: float) -> int:
    """Return K, the number of visible patches: int(patches * (1 - mask_ratio))."""
    return int(patches * (1 - mask_ratio))


def choose_visible(noise: Array, visible: int) -> tuple[Array, Array, Array]:
    """Choose the patches with the smallest noise.

    Args:
      noise: float32 (B, P), uniform.
      visible: K, number of visible patches.

    Returns:
      keep: int32 (B, K), indices of the visible patches, by rising noise.
      restore: int32 (B, P), rank of each patch by noise; visible ones have ranks below K.
      mask: float32 (B, P), 0 visible, 1 removed.
    """
    order = jnp.argsort(noise, axis=1)
    restore = jnp.argsort(order, axis=1)
    return order[:, :visible], restore, (restore >= visible).astype(jnp.float32)


def restore_patches(visible: Array, filler: Array, restore: Array) -> Array:
    """Return all patches in image order, removed ones filled.

    Args:
      visible: (B, K, D), patches by rising noise.
      filler: (D,), value of the removed patches.
      restore: int32 (B, P), from choose_visible.

    Returns:
      (B, P, D).
    """
    b, kept, width = visible.shape
    missing = restore.shape[1] - kept
    fill = jnp.broadcast_to(filler.astype(visible.dtype), (b, missing, width))
    return gather_patches(jnp.concatenate([visible, fill], axis=1), restore)


def scatter_patches(visible: Array, keep: Array, patches: int) -> Array:
    """Write visible patches (B, K, D) to their indices `keep` (B, K) in zeros (B, P, D)."""
    empty = jnp.zeros((patches, visible.shape[-1]), visible.dtype)
    # One scatter per image: with one over the batch, the partitioner gathers the whole batch.
    return jax.vmap(lambda rows, indices: empty.at[indices].set(rows))(visible, keep)
