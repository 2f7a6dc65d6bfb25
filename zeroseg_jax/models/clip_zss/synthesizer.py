"""The prototype synthesizer of CLIP-ZSS: region means to class weights in the words' space.

Source: CLIP-ZSS (arXiv 2310.02296), pixel learning module: a transformer decoder whose queries are
region means and whose keys and values are the teacher's class tokens; its sizes are own.
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
    """Regions (B, C, E) look at each other and at class tokens (B, M, E): prototypes (B, C, E).

    Args of the call:
      means: (B, C, E), of the student's dense features over each region.
      present: bool (B, C); absent regions are not looked at.
      tokens: (B, M, E), the teacher's class tokens.
    """

    width: int
    depth: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, means: Array, present: Array, tokens: Array) -> Array:
        x = nn.Dense(self.width, dtype=self.dtype, name="queries")(means.astype(self.dtype))
        keys = nn.Dense(self.width, dtype=self.dtype, name="keys")(tokens.astype(self.dtype))
        # An image without regions attends evenly; nobody reads its rows.
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
        # The region's own mean stays in sight: what is added to it starts small.
        out = nn.Dense(
            means.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.normal(0.02), name="out"
        )
        return means.astype(jnp.float32) + out(x).astype(jnp.float32)
