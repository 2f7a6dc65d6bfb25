"""Prototype synthesizer of CLIP-ZSS: region means to class weights in CLIP's text space.

Source: CLIP-ZSS (arXiv 2310.02296), pixel learning module: a transformer decoder with region means
as queries and the teacher's class tokens as keys and values. Its sizes are own.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import Attention, LayerNorm, Mlp

Array = jax.Array
_EPS = 1e-6


class Synthesizer(nn.Module):
    """Transformer decoder over regions: self-attention, cross-attention, MLP.

    Args of the call:
      means: (B, C, E), means of the student's dense features over each region.
      present: bool (B, C); absent regions are not attended to.
      tokens: (B, M, E), class tokens of the teacher.

    Returns of the call:
      float32 (B, C, E), prototypes.
    """

    width: int
    depth: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, means: Array, present: Array, tokens: Array) -> Array:
        x = nn.Dense(self.width, dtype=self.dtype, name="queries")(means.astype(self.dtype))
        keys = nn.Dense(self.width, dtype=self.dtype, name="keys")(tokens.astype(self.dtype))
        # An image without regions attends evenly; its rows are not used.
        seen = present[:, None, None]
        for i in range(self.depth):
            block = f"block_{i}"
            y = LayerNorm(_EPS, name=f"{block}_norm1")(x)
            x = x + Attention(self.heads, self.dtype, name=f"{block}_regions")(y, mask=seen)
            y = LayerNorm(_EPS, name=f"{block}_norm2")(x)
            x = x + Attention(self.heads, self.dtype, name=f"{block}_cross")(y, keys)
            y = LayerNorm(_EPS, name=f"{block}_norm3")(x)
            x = x + Mlp(4 * self.width, self.width, dtype=self.dtype, name=f"{block}_mlp")(y)
        x = LayerNorm(_EPS, name="norm")(x)
        # Residual connection around the region mean; the last layer starts near zero.
        out = nn.Dense(
            means.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.normal(0.02), name="out"
        )
        return means.astype(jnp.float32) + out(x).astype(jnp.float32)
