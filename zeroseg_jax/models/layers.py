"""Transformer parts shared by the student and the teacher.

Letters: B images, L and M tokens, D width, N heads. Softmax and norms run in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def quick_gelu(x: Array) -> Array:
    """Return x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


# jax.nn.gelu is the tanh approximation unless told otherwise; torch's default is exact.
ACTIVATIONS = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
}


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, computed in float32, returned in the input's dtype."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = nn.LayerNorm(
            epsilon=self.eps, dtype=jnp.float32, name="norm", use_fast_variance=False
        )
        return norm(x).astype(x.dtype)


class Mlp(nn.Module):
    """Two linear layers along the last axis with an activation between."""

    hidden: int
    out: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _dense(self.hidden, self.dtype, "fc1")(x)
        return _dense(self.out, self.dtype, "fc2")(ACTIVATIONS[self.activation](x))


class Attention(nn.Module):
    """Multi-head attention of queries (B, L, D) to keys and values (B, M, D)."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        queries: Array,
        keys: Array | None = None,
        mask: Array | None = None,
        bias: Array | None = None,
    ):
        keys = queries if keys is None else keys
        width = queries.shape[-1]
        q = split_heads(_dense(width, self.dtype, "query")(queries), self.heads)
        k = split_heads(_dense(width, self.dtype, "key")(keys), self.heads)
        v = split_heads(_dense(width, self.dtype, "value")(keys), self.heads)
        weights = attention_weights(q, k, mask, bias).astype(self.dtype)
        return _dense(width, self.dtype, "out")(join_heads(weights @ v))


class Block(nn.Module):
    """A pre-norm transformer block: x + attention(norm x), then x + mlp(norm x).

    With `context` (B, M, D) the tokens attend to it instead of to themselves, through the same
    norm and weights; `mask` and `bias` are those of attention_weights.
    """

    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    eps: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        context: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        width = x.shape[-1]
        norm = LayerNorm(self.eps, name="norm1")
        keys = None if context is None else norm(context)
        attention = Attention(self.heads, self.dtype, name="attention")
        x = x + attention(norm(x), keys, mask, bias)
        # Rounded: a ratio such as 4304 / 1152 need not come back whole.
        mlp = Mlp(round(width * self.mlp_ratio), width, self.activation, self.dtype, name="mlp")
        return x + mlp(LayerNorm(self.eps, name="norm2")(x))


def remat_block(remat: str, block: type[nn.Module] = Block) -> type[nn.Module]:
    """Return a kind of block with what its backward pass computes again instead of keeping it.

    Args:
      remat: "none"; "dots" keeps only products with weights; "full" keeps only the input.
      block: what is wrapped.
    """
    if remat == "none":
        return block
    keep = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}
    return nn.remat(block, policy=keep[remat])


def run_stack(blocks: Sequence[nn.Module], x: Array, *, scan: bool) -> tuple[Array, list[Array]]:
    """Run blocks of one kind and size, one after the other.

    Args:
      blocks: bound modules.
      x: (B, L, D).
      scan: as a loop over their stacked parameters. A block is compiled once, and XLA cannot fuse
        the gradient's whole chain of residual sums into each block anew, which on a CPU takes a
        third of a training step. It costs a copy of the parameters, and on a TPU memory: the
        compiler keeps all that a loop's backward pass needs.

    Returns:
      (B, L, D), and what went into each block.
    """
    if not scan or len(blocks) < 2 or blocks[0].is_initializing():
        inputs = []
        for block in blocks:
            inputs.append(x)
            x = block(x)
        return x, inputs
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(block.variables["params"] for block in blocks)
    )
    alone = blocks[0].clone(parent=None, name=None)
    x, inputs = jax.lax.scan(lambda x, params: (alone.apply({"params": params}, x), x), x, stacked)
    return x, list(inputs)


class PatchEmbedding(nn.Module):
    """Cut (B, Hpx, Wpx, 3) into patches and project them: (B, P, D) in row-major order."""

    width: int
    patch_px: int
    bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        patches = to_patches(images.astype(self.dtype), self.patch_px)
        return nn.Dense(
            self.width,
            use_bias=self.bias,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name="projection",
        )(patches)


def _dense(features: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(features, dtype=dtype, kernel_init=nn.initializers.xavier_uniform(), name=name)


def split_heads(x: Array, heads: int) -> Array:
    """Reshape (B, L, D) to (B, N, L, D / N).

    Heads stand before tokens, so that the products of attention are plain batches of matrices,
    which a CPU multiplies faster than strided ones.
    """
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    """Undo :func:`split_heads`: (B, N, L, d) to (B, L, N d)."""
    b, heads, length, width = x.shape
    return x.swapaxes(1, 2).reshape(b, length, heads * width)


def attention_weights(
    q: Array, k: Array, mask: Array | None = None, bias: Array | None = None
) -> Array:
    """Softmax over keys of scaled dot products.

    Args:
      q: (B, N, L, d).
      k: (B, N, M, d).
      mask: bool, broadcastable to (B, N, L, M); False is not attended to.
      bias: float32, broadcastable to (B, N, L, M), added to the scores.

    Returns:
      float32 (B, N, L, M), rows sum to 1.
    """
    scores = jnp.einsum("bnld,bnmd->bnlm", q, k, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)


def to_patches(images: Array, patch_px: int) -> Array:
    """Cut (B, Hpx, Wpx, 3) into (B, P, patch_px * patch_px * 3), rows before columns."""
    b, height, width, channels = images.shape
    h, w = height // patch_px, width // patch_px
    x = images.reshape(b, h, patch_px, w, patch_px, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * w, patch_px * patch_px * channels)


def from_patches(patches: Array, h: int, w: int) -> Array:
    """Undo :func:`to_patches` for a grid of h by w patches of three channels."""
    b, _, values = patches.shape
    patch_px = int((values // 3) ** 0.5)
    x = patches.reshape(b, h, w, patch_px, patch_px, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * patch_px, w * patch_px, 3)


def sincos_positions(h: int, w: int, width: int) -> np.ndarray:
    """Build fixed 2-D sine-cosine positions, temperature 10000.

    Args:
      h, w: patch grid.
      width: D, a multiple of 4: half for the column, half for the row.

    Returns:
      float32 (h * w, D): sin and cos of the column, then sin and cos of the row.

    Source: MAE, section 3; facts of its published layout.
    """
    if width % 4:
        raise ValueError(f"width: {width} is not a multiple of 4, which 2-D positions need.")
    frequencies = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width // 4))
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    parts = []
    for positions in (columns, rows):
        angles = positions.reshape(-1, 1) * frequencies
        parts += [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def resize_positions(positions: Array, h: int, w: int) -> Array:
    """Resize learned positions (side * side, D) to (h * w, D).

    Bicubic as torch's default (a = -0.75, half-pixel centres, no antialiasing), which is
    what Hugging Face's CLIP does; the identity where the grid is unchanged.
    """
    side = int(round(positions.shape[0] ** 0.5))
    if (h, w) == (side, side):
        return positions
    grid = positions.reshape(side, side, -1)
    resized = jax.image.resize(
        grid, (h, w, grid.shape[-1]), method="cubic-pytorch", antialias=False
    )
    return resized.reshape(h * w, -1)
