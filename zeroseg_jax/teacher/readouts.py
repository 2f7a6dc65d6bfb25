"""Dense read-outs of the vision tower: an embedding of each patch from the last block.

q, k and v are the queries, keys and values of the last attention. n(.) is its softmax over
patches of scaled products, for each head:

| name | attention | part of the block | source |
|---|---|---|---|
| raw | n(q k) | all | the unchanged tower |
| maskclip | the identity | all | Zhou et al., ECCV 2022, 3.2 |
| sclip | n(q q) + n(k k) | all | Wang et al., ECCV 2024, 3.2 |
| clearclip | n(q q) | attention without residual and MLP | Lan et al., ECCV 2024, 3.3 |
| naclip | n(k k + gaussian around the patch) | the same | Hajimiri et al., WACV 2025, 3.2 |

CLIP's class token is attended to as in the tower; in naclip the gaussian between it and any patch
is 0.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import LayerNorm, Mlp, attention_weights, join_heads, split_heads
from zeroseg_jax.teacher.towers import VisionTower

Array = jax.Array
READOUTS = ("raw", "maskclip", "sclip", "clearclip", "naclip")
_GAUSSIAN_STD_PATCHES = 5.0  # standard deviation in naclip, the authors' value


def read_out(tower: VisionTower, params: dict[str, Any], pixels: Array, readout: str) -> Array:
    """Embed every patch.

    Args:
      tower: vision tower.
      params: parameters of the tower.
      pixels: normalised pixels, float (B, Hpx, Wpx, 3), height and width multiples of the patch.
      readout: name in READOUTS.

    Returns:
      float (B, h, w, E), projected (in SigLIP: pooled one by one), not normalised.

    Raises:
      ValueError: the read-out is unknown.
    """
    if readout not in READOUTS:
        raise ValueError(f"readout: {readout!r} is not one of {', '.join(READOUTS)}.")
    bound = tower.bind({"params": params})
    depth = tower.config.vision.depth
    b, height, width, _ = pixels.shape
    grid = (height // tower.config.patch_px, width // tower.config.patch_px)
    if readout == "raw":
        tokens = bound.tokens(pixels)
    else:
        before = bound.tokens(pixels, depth - 1)
        tokens = _last_block(tower, params[f"blocks_{depth - 1}"], before, readout, grid)
    patches = bound.project(tokens[:, tower.first_patch :])
    return patches.reshape(b, *grid, -1)


def _last_block(
    tower: VisionTower, block: dict[str, Any], tokens: Array, readout: str, grid: tuple[int, int]
) -> Array:
    part = tower.config.vision
    dense, norm = nn.Dense(part.width, dtype=tower.dtype), LayerNorm(part.eps)
    normed = norm.bind({"params": block["norm1"]})(tokens)

    def project(name: str, x: Array) -> Array:
        return dense.bind({"params": block["attention"][name]})(x)

    value = project("value", normed)
    if readout == "maskclip":
        mixed = value
    else:
        q, k = (split_heads(project(name, normed), part.heads) for name in ("query", "key"))
        if readout == "sclip":
            weights = attention_weights(q, q) + attention_weights(k, k)
        elif readout == "clearclip":
            weights = attention_weights(q, q)
        else:
            bias = jnp.pad(_gaussian(*grid), ((tower.first_patch, 0),) * 2)
            weights = attention_weights(k, k, bias=bias)
        mixed = join_heads(weights.astype(tower.dtype) @ split_heads(value, part.heads))
    attended = project("out", mixed)
    if readout in ("clearclip", "naclip"):
        return attended
    tokens = tokens + attended
    mlp = Mlp(part.mlp_width, part.width, part.activation, tower.dtype)
    after = norm.bind({"params": block["norm2"]})(tokens)
    return tokens + mlp.bind({"params": block["mlp"]})(after)


def _gaussian(h: int, w: int) -> Array:
    """Return float32 (h w, h w): exp(-d^2 / (2 std^2)) of the distance between patches."""
    rows, columns = (x.ravel() for x in jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"))
    square = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return jnp.exp(-square / (2 * _GAUSSIAN_STD_PATCHES**2)).astype(jnp.float32)
