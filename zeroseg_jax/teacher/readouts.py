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
| scclip | (A of a middle block + n(k k)) / 2 | the same | Bai et al., SC-CLIP, arXiv 2411.15869 |
| proxy | A of a second tower | the same | Lan et al., ProxyCLIP, ECCV 2024 |

A is the softmax of cosines between patches, see self_calibration.affinity_weights; it is the same
for all heads. CLIP's class token is attended to as in the tower; in naclip the gaussian between it
and any patch is 0. In scclip and proxy patches attend to patches alone.

TIPSv2's own read-out is maskclip. A tower without a class token (SigLIP) has no class term in
scclip.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import LayerNorm, Mlp, attention_weights, join_heads, split_heads
from zeroseg_jax.teacher import self_calibration as calibration
from zeroseg_jax.teacher.towers import VisionTower

Array = jax.Array
SINGLE_TOWER_READOUTS = ("raw", "maskclip", "sclip", "clearclip", "naclip", "scclip")
READOUTS = (*SINGLE_TOWER_READOUTS, "proxy")
_GAUSSIAN_STD_PATCHES = 5.0  # standard deviation in naclip, the authors' value
_SCCLIP_WEIGHTS = (1.0, 3.0)  # factor of the mean and scale of A, the authors' values
_PROXY_WEIGHTS = (1.2, 3.0)  # beta and gamma, ProxyCLIP's defaults


class Affinity(flax.struct.PyTreeNode):
    """Second vision tower, whose features decide which patches belong together.

    Attributes:
      params: parameters of the tower.
      tower: the vision tower; it needs no text tower.
      mean, std: normalisation of pixels that are normalised for the CLIP already.
    """

    params: dict[str, Any]
    tower: VisionTower = flax.struct.field(pytree_node=False)
    mean: tuple[float, ...] = flax.struct.field(pytree_node=False)
    std: tuple[float, ...] = flax.struct.field(pytree_node=False)


def check_readout(readout: str, has_affinity: bool) -> None:
    """Refuse an unknown read-out, and a second tower that is missing or not read.

    Raises:
      ValueError: as above.
    """
    if readout not in READOUTS:
        raise ValueError(f"--readout: {readout!r} is not one of {', '.join(READOUTS)}.")
    if (readout == "proxy") != has_affinity:
        raise ValueError(
            f"--readout: {readout} reads one tower; leave the affinity tower out."
            if has_affinity
            else "--readout: proxy needs an affinity tower; name both, as in dinov2+clip-b16."
        )


def read_out(
    tower: VisionTower,
    params: dict[str, Any],
    pixels: Array,
    readout: str,
    affinity: Affinity | None = None,
) -> Array:
    """Embed every patch.

    Args:
      tower: vision tower.
      params: parameters of the tower.
      pixels: normalised pixels, float (B, Hpx, Wpx, 3), height and width multiples of the patch
        (proxy: of the second tower's patch).
      readout: name in READOUTS.
      affinity: second tower, for proxy alone.

    Returns:
      float (B, h, w, E), projected (in SigLIP: pooled one by one), not normalised. The grid of
      proxy is the second tower's.

    Raises:
      ValueError: the read-out is unknown, or the second tower does not fit it.
    """
    check_readout(readout, affinity is not None)
    bound = tower.bind({"params": params})
    if affinity is not None:
        return bound.project(_read_proxy(bound, params, pixels, affinity))
    depth = tower.config.vision.depth
    b, height, width, _ = pixels.shape
    grid = (height // tower.config.patch_px, width // tower.config.patch_px)
    if readout == "raw":
        patches = bound.tokens(pixels)[:, tower.first_patch :]
    elif readout == "scclip":
        patches = _read_scclip(bound, params, pixels, grid)
    else:
        tokens = _read_last(
            _LastBlock(tower, params), bound.tokens(pixels, depth - 1), readout, grid
        )
        patches = tokens[:, tower.first_patch :]
    return bound.project(patches).reshape(b, *grid, -1)


class _LastBlock:
    """Parts of the last block, to be applied apart.

    Args:
      tower: vision tower.
      params: its parameters.
    """

    def __init__(self, tower: VisionTower, params: dict[str, Any]):
        self.tower, self.part = tower, tower.config.vision
        self._params = params[f"blocks_{self.part.depth - 1}"]

    def norm(self, name: str, x: Array) -> Array:
        """Apply "norm1" or "norm2"."""
        return LayerNorm(self.part.eps).bind({"params": self._params[name]})(x)

    def project(self, name: str, x: Array) -> Array:
        """Apply "query", "key", "value" or "out" of the attention."""
        dense = nn.Dense(self.part.width, dtype=self.tower.dtype)
        return dense.bind({"params": self._params["attention"][name]})(x)

    def heads(self, name: str, x: Array) -> Array:
        """Return "query", "key" or "value" of normed tokens (B, L, D): (B, N, L, d)."""
        return split_heads(self.project(name, x), self.part.heads)

    def mix(self, weights: Array, values: Array) -> Array:
        """Return weights float32 (B, N, L, L) times values (B, N, L, d), projected: (B, L, D)."""
        return self.project("out", join_heads(weights.astype(self.tower.dtype) @ values))

    def add_mlp(self, x: Array) -> Array:
        """Add the MLP of tokens (B, L, D) to them."""
        part = self.part
        mlp = Mlp(part.mlp_width, part.width, part.activation, self.tower.dtype)
        return x + mlp.bind({"params": self._params["mlp"]})(self.norm("norm2", x))


def _read_last(block: _LastBlock, tokens: Array, readout: str, grid: tuple[int, int]) -> Array:
    normed = block.norm("norm1", tokens)
    if readout == "maskclip":
        attended = block.project("out", block.project("value", normed))
    else:
        q, k = block.heads("query", normed), block.heads("key", normed)
        if readout == "sclip":
            weights = attention_weights(q, q) + attention_weights(k, k)
        elif readout == "clearclip":
            weights = attention_weights(q, q)
        else:
            bias = jnp.pad(_gaussian(*grid), ((block.tower.first_patch, 0),) * 2)
            weights = attention_weights(k, k, bias=bias)
        attended = block.mix(weights, block.heads("value", normed))
    if readout in ("clearclip", "naclip"):
        return attended
    return block.add_mlp(tokens + attended)


def _read_scclip(
    bound: VisionTower, params: dict[str, Any], pixels: Array, grid: tuple[int, int]
) -> Array:
    """Return SC-CLIP's patches (B, P, D) before the final norm."""
    chosen = calibration.choose_blocks(bound.config.vision.depth)
    block, first = _LastBlock(bound, params), bound.first_patch
    x, outputs = bound.tokens(pixels, 0), []
    for layer in bound.blocks[:-1]:
        x = layer(x)
        outputs.append(x)
    start, stop = chosen.levels
    levels = sum(outputs[start:stop], outputs[start - 1])

    def fill(tokens: Array, outliers: Array) -> Array:
        return calibration.fill_outliers(tokens[first:], outliers, grid)

    def attend(patches: Array, similarity: Array, tokens: Array) -> Array:
        normed = block.norm("norm1", patches)[None]
        k, v = block.heads("key", normed), block.heads("value", normed)
        affinity = calibration.affinity_weights(similarity, *_SCCLIP_WEIGHTS)
        attended = block.mix((affinity + attention_weights(k, k)) / 2, v)[0]
        return attended + chosen.class_weight * tokens[:1] if first else attended

    def read_one(last: Array, middle: Array, low: Array, levels: Array) -> Array:
        outliers = calibration.find_outliers(last[first:])
        similarity = calibration.cosines(fill(middle, outliers))
        patches = calibration.average_alike(fill(last, outliers), similarity)
        # Averages are linear, so that the two sums are averaged at once.
        both = attend(patches, similarity, last) + attend(levels[first:], similarity, levels)
        return calibration.average_alike(both, calibration.cosines(low[first:]))

    middle, low = outputs[chosen.middle - 1], outputs[chosen.low - 1]
    return jax.vmap(read_one)(x, middle, low, levels)


def _read_proxy(
    bound: VisionTower, params: dict[str, Any], pixels: Array, affinity: Affinity
) -> Array:
    """Return ProxyCLIP's patches (B, h, w, D) before the final norm, on the second tower's grid."""
    side, second = bound.config.patch_px, affinity.tower.config.patch_px
    b, height, width, _ = pixels.shape
    if height % second or width % second:
        raise ValueError(
            f"readout: sides of {height} x {width} px are no multiples of the affinity tower's "
            f"patch of {second} px; resize the image."
        )
    # Zeros are the CLIP's mean colour. ProxyCLIP pads at the centre; here by whole patches of the
    # second tower, so that its grid can be cut exactly.
    multiple = math.lcm(side, second)
    pads = [((-n % multiple // 2 // second * second), -n % multiple) for n in (height, width)]
    padded = jnp.pad(pixels, ((0, 0), *((before, all_ - before) for before, all_ in pads), (0, 0)))
    _, tall, wide, _ = padded.shape
    lent = affinity.tower.bind({"params": affinity.params})
    tokens = lent.tokens((padded - jnp.array(affinity.mean)) / jnp.array(affinity.std))
    features = lent.post_norm(tokens[:, lent.first_patch :])
    weights = jax.vmap(calibration.affinity_weights, (0, None, None))(
        calibration.cosines(features), *_PROXY_WEIGHTS
    )
    block = _LastBlock(bound, params)
    tokens = bound.tokens(padded, bound.config.vision.depth - 1)[:, bound.first_patch :]
    values = block.project("value", block.norm("norm1", tokens))
    grid = (tall // second, wide // second)
    values = values.reshape(b, tall // side, wide // side, -1)
    values = jax.image.resize(values, (b, *grid, values.shape[-1]), "bilinear", antialias=False)
    mixed = weights.astype(values.dtype) @ values.reshape(b, -1, values.shape[-1])
    (top, _), (left, _) = pads
    top, left = top // second, left // second
    patches = block.project("out", mixed).reshape(b, *grid, -1)
    return patches[:, top : top + height // second, left : left + width // second]


def _gaussian(h: int, w: int) -> Array:
    """Return float32 (h w, h w): exp(-d^2 / (2 std^2)) of the distance between patches."""
    rows, columns = (x.ravel() for x in jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"))
    square = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    return jnp.exp(-square / (2 * _GAUSSIAN_STD_PATCHES**2)).astype(jnp.float32)
