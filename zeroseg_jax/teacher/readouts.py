"""Dense read-outs of a tower's last block: one embedding per patch instead of one per image.

With q, k and v the last attention's queries, keys and values, and n(.) its softmax over patches
of scaled products, head by head:

| name | attention | kept of the block | source |
|---|---|---|---|
| raw | n(q k) | all | the tower as it is |
| maskclip | the identity | all | Zhou et al., ECCV 2022, 3.2 |
| sclip | n(q q) + n(k k) | all | Wang et al., ECCV 2024, 3.2 |
| clearclip | n(q q) | attention alone: no residual, no MLP | Lan et al., ECCV 2024, 3.3 |
| naclip | n(k k + gaussian around the patch) | attention alone | Hajimiri et al., WACV 2025, 3.2 |

The class token, where there is one, is attended to as in the tower; under naclip the gaussian
between it and any patch is 0.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import LayerNorm, Mlp, attention_weights, join_heads, split_heads
from zeroseg_jax.teacher.clip import VisionTower

Array = jax.Array
READOUTS = ("raw", "maskclip", "sclip", "clearclip", "naclip")
_GAUSSIAN_STD_PATCHES = 5.0  # of naclip's window, the authors' value


def read_out(tower: VisionTower, params: dict[str, Any], pixels: Array, readout: str) -> Array:
    """Embed every patch.

    Args:
      tower: the vision tower.
      params: its parameters.
      pixels: float (B, Hpx, Wpx, 3), normalised, sides multiples of the patch.
      readout: one of READOUTS.

    Returns:
      float (B, h, w, E), projected (in SigLIP: pooled one by one), not normalised.

    Raises:
      ValueError: an unknown read-out.
    """
    if readout not in READOUTS:
        raise ValueError(f"readout: {readout!r} is not one of {', '.join(READOUTS)}.")
    variables = {"params": params}
    depth = tower.config.vision.depth
    b, height, width, _ = pixels.shape
    grid = (height // tower.config.patch_px, width // tower.config.patch_px)
    if readout == "raw":
        tokens = tower.apply(variables, pixels, method="tokens")
    else:
        before = tower.apply(variables, pixels, depth - 1, method="tokens")
        tokens = _last_block(tower, params[f"blocks_{depth - 1}"], before, readout, grid)
    patches = tower.apply(variables, tokens[:, tower.first_patch :], method="project")
    return patches.reshape(b, *grid, -1)


def _last_block(
    tower: VisionTower, block: dict[str, Any], tokens: Array, readout: str, grid: tuple[int, int]
) -> Array:
    part = tower.config.vision
    dense, norm = nn.Dense(part.width, dtype=tower.dtype), LayerNorm(part.eps)
    normed = norm.apply({"params": block["norm1"]}, tokens)

    def project(name: str, x: Array) -> Array:
        return dense.apply({"params": block["attention"][name]}, x)

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
    after = norm.apply({"params": block["norm2"]}, tokens)
    return tokens + mlp.apply({"params": block["mlp"]}, after)


def _gaussian(h: int, w: int) -> Array:
    """Return float32 (h w, h w): exp(-d^2 / (2 std^2)) of the distance between patches."""
    rows, columns = (x.ravel() for x in jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"))
    square = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return jnp.exp(-square / (2 * _GAUSSIAN_STD_PATCHES**2)).astype(jnp.float32)
