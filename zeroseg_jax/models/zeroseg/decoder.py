"""Pixel decoder that reconstructs masked patches (MAE, section 3; ZeroSeg, section 3.1)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.config import DecoderConfig
from zeroseg_jax.models.layers import LayerNorm, remat_block, run_stack, sincos_positions
from zeroseg_jax.models.zeroseg.masking import restore_patches

Array = jax.Array


class Decoder(nn.Module):
    """Narrow transformer over all patches, with mask tokens at the removed ones."""

    config: DecoderConfig
    patch_px: int
    norm_eps: float
    dtype: Any = jnp.float32
    remat: str = "none"
    scan: bool = False  # see layers.run_stack
    core: str = "xla"  # see layers.Attention

    @nn.compact
    def __call__(self, tokens: Array, restore: Array) -> Array:
        """Predict the pixels of every patch.

        Args:
          tokens: (B, 1 + K, D), output of the encoder: class token, then visible patches.
          restore: int32 (B, P), from masking.choose_visible; the patch grid is square.

        Returns:
          float32 (B, P, patch_px * patch_px * 3).
        """
        config = self.config
        side = int(round(restore.shape[1] ** 0.5))
        x = nn.Dense(config.width, dtype=self.dtype, name="embedding")(tokens)
        filler = self.param("mask_token", nn.initializers.normal(0.02), (config.width,))
        patches = restore_patches(x[:, 1:], filler, restore)
        patches = patches + jnp.asarray(sincos_positions(side, side, config.width), x.dtype)
        x = jnp.concatenate([x[:, :1], patches], axis=1)
        block = remat_block(self.remat)
        blocks = [
            block(
                config.heads,
                eps=self.norm_eps,
                dtype=self.dtype,
                core=self.core,
                name=f"blocks_{i}",
            )
            for i in range(config.depth)
        ]
        x, _ = run_stack(blocks, x, scan=self.scan)
        x = LayerNorm(self.norm_eps, name="post_norm")(x)
        pixels = nn.Dense(self.patch_px**2 * 3, dtype=self.dtype, name="projection")(x)
        return pixels[:, 1:].astype(jnp.float32)
