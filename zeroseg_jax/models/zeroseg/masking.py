"""Random masking of patches (MAE, section 3; ZeroSeg, section 3.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def count_visible(patches: int, mask_ratio: float) -> int:
    """Return how many of `patches` stay visible: int(patches * (1 - mask_ratio))."""
    return int(patches * (1 - mask_ratio))


def choose_visible(noise: Array, visible: int) -> tuple[Array, Array, Array]:
    """Choose the patches of smallest noise.

    Args:
      noise: float32 (B, P), uniform.
      visible: K, how many patches stay.

    Returns:
      keep: int32 (B, K), indices of the visible patches, by rising noise.
      restore: int32 (B, P), position of each patch in the shuffled order, visible ones first.
      mask: float32 (B, P), 0 visible, 1 removed.
    """
    order = jnp.argsort(noise, axis=1)
    restore = jnp.argsort(order, axis=1)
    return order[:, :visible], restore, (restore >= visible).astype(jnp.float32)


def gather_patches(x: Array, indices: Array) -> Array:
    """Take patches (B, K) by index from (B, P, D): (B, K, D)."""
    return jnp.take_along_axis(x, indices[..., None], axis=1)


def restore_patches(visible: Array, filler: Array, restore: Array) -> Array:
    """Put visible patches (B, K, D) back in place, `filler` (D,) elsewhere: (B, P, D)."""
    b, kept, width = visible.shape
    missing = restore.shape[1] - kept
    fill = jnp.broadcast_to(filler.astype(visible.dtype), (b, missing, width))
    return gather_patches(jnp.concatenate([visible, fill], axis=1), restore)


def scatter_patches(visible: Array, keep: Array, patches: int) -> Array:
    """Put visible patches (B, K, D) back by their indices (B, K), 0 elsewhere: (B, P, D)."""
    empty = jnp.zeros((patches, visible.shape[-1]), visible.dtype)
    # One scatter an image: by rows of the batch, the partitioner would gather the whole batch.
    return jax.vmap(lambda rows, places: empty.at[places].set(rows))(visible, keep)
