"""Transformer layers shared by students and teacher: attention, block, MLP, patches, positions.

Letters: B images, L and M tokens, D width, N heads, P patches. Softmax and norms run in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.models.fused_attention import attend_fused, attend_library, fits_core
from zeroseg_jax.models.half_precision import Linear, gelu

Array = jax.Array


def quick_gelu(x: Array) -> Array:
    """Return x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


# The default of jax.nn.gelu is the tanh approximation; torch's default is exact.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": quick_gelu,
    "relu": jax.nn.relu,
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
    """Two linear layers along the last axis with an activation between them."""

    hidden: int
    out: int
    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Linear(self.hidden, self.dtype, name="fc1")(x)
        return Linear(self.out, self.dtype, name="fc2")(ACTIVATIONS[self.activation](x))


class Attention(nn.Module):
    """Multi-head attention of queries (B, L, D) to keys and values (B, M, D).

    `core` is a fused_attention.Core. Rows that it does not take (other keys than the queries,
    a mask, a bias, a length or width that does not fit) use XLA's.
    """

    heads: int
    dtype: Any = jnp.float32
    core: str = "xla"

    @nn.compact
    def __call__(
        self,
        queries: Array,
        keys: Array | None = None,
        mask: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        # Initialisation runs once, on one image that cannot be split over a mesh.
        plain = keys is None and mask is None and bias is None and not self.is_initializing()
        keys = queries if keys is None else keys
        width = queries.shape[-1]
        fits = plain and fits_core(self.core, queries.shape[1], width, self.heads)
        core = self.core if fits else "xla"

        def project(name: str, tokens: Array) -> Array:
            x = Linear(width, self.dtype, name=name)(tokens)
            return split_heads(x, self.heads) if core == "xla" else x

        q, k, v = project("query", queries), project("key", keys), project("value", keys)
        if core == "xla":
            mixed = join_heads(attention_weights(q, k, mask, bias).astype(self.dtype) @ v)
        else:
            mixed = (attend_fused if core == "fused" else attend_library)(q, k, v, self.heads)
        return Linear(width, self.dtype, name="out")(mixed)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + mlp(norm x).

    With `context` (B, M, D) the tokens attend to it instead of to themselves, with the same norm
    and weights. `mask` and `bias` are passed to attention_weights. `core`: see Attention.
    """

    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    eps: float = 1e-6
    dtype: Any = jnp.float32
    core: str = "xla"

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
        attention = Attention(self.heads, self.dtype, self.core, name="attention")
        x = x + attention(norm(x), keys, mask, bias)
        # Rounded: 1152 * (4304 / 1152) may differ from 4304 in the last bit.
        mlp = Mlp(round(width * self.mlp_ratio), width, self.activation, self.dtype, name="mlp")
        return x + mlp(LayerNorm(self.eps, name="norm2")(x))


def remat_block(remat: str, block: type[nn.Module] = Block) -> type[nn.Module]:
    """Wrap a block class in nn.remat, which recomputes activations in the backward pass.

    Args:
      remat: "none"; "dots" stores only products with weights; "full" stores only the input.
      block: module class to wrap.

    Returns:
      A module class with the parameters of `block`.
    """
    if remat == "none":
        return block
    keep = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}
    return nn.remat(block, policy=keep[remat])


def run_stack(blocks: Sequence[nn.Module], x: Array, *, scan: bool) -> tuple[Array, list[Array]]:
    """Run blocks of one class and size in sequence.

    Args:
      blocks: bound modules.
      x: (B, L, D).
      scan: True for one lax.scan over their stacked parameters, which compiles a block once. On a
        CPU this saves a third of a training step, because XLA no longer fuses the chain of
        residual sums into the gradient of each block. It costs a copy of the parameters. On a TPU
        it also costs memory, because the compiler stores all activations of the loop.

    Returns:
      (B, L, D), and the input of each block.
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

    def run(x: Array, params: Any) -> tuple[Array, Array]:
        return cast(Array, alone.apply({"params": params}, x)), x

    x, stacked_inputs = jax.lax.scan(run, x, stacked)
    return x, list(stacked_inputs)


class PatchEmbedding(nn.Module):
    """Linear projection of the patches of (B, Hpx, Wpx, 3): (B, P, D), rows before columns."""

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


def split_heads(x: Array, heads: int) -> Array:
    """Reshape (B, L, D) to (B, N, L, D / N).

    The head axis comes before the token axis, so that attention multiplies contiguous matrices,
    which is faster on a CPU.
    """
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    """Invert :func:`split_heads`: (B, N, L, d) to (B, L, N d)."""
    b, heads, length, width = x.shape
    return x.swapaxes(1, 2).reshape(b, length, heads * width)


def attention_weights(
    q: Array, k: Array, mask: Array | None = None, bias: Array | None = None
) -> Array:
    """Return the softmax over keys of scaled dot products.

    Args:
      q: (B, N, L, d).
      k: (B, N, M, d).
      mask: bool, broadcastable to (B, N, L, M); keys where it is False get no weight.
      bias: float32, broadcastable to (B, N, L, M), added to the scores.

    Returns:
      float32 (B, N, L, M), sums to 1 over M.
    """
    scores = jnp.einsum("bnld,bnmd->bnlm", q, k, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1)


def gather_patches(x: Array, indices: Array) -> Array:
    """Select patches of (B, P, D) by their indices int (B, K): (B, K, D)."""
    return jnp.take_along_axis(x, indices[..., None], axis=1)


def to_patches(images: Array, patch_px: int) -> Array:
    """Cut (B, Hpx, Wpx, 3) into (B, P, patch_px * patch_px * 3), rows before columns."""
    b, height, width, channels = images.shape
    h, w = height // patch_px, width // patch_px
    x = images.reshape(b, h, patch_px, w, patch_px, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * w, patch_px * patch_px * channels)


def from_patches(patches: Array, h: int, w: int) -> Array:
    """Invert :func:`to_patches` for a grid of h x w patches of three channels."""
    b, _, values = patches.shape
    patch_px = int((values // 3) ** 0.5)
    x = patches.reshape(b, h, w, patch_px, patch_px, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * patch_px, w * patch_px, 3)


def sincos_positions(h: int, w: int, width: int) -> np.ndarray:
    """Return fixed 2-D sine-cosine positions, temperature 10000.

    Args:
      h, w: patch grid.
      width: D, a multiple of 4; half encodes the column, half the row.

    Returns:
      float32 (h * w, D): sin and cos of the column, then sin and cos of the row.

    Raises:
      ValueError: `width` is not a multiple of 4.

    Source: MAE, section 3; the layout of its published checkpoints.
    """
    if width % 4:
        raise ValueError(f"width: {width} is not a multiple of 4; 2-D positions need one.")
    frequencies = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width // 4))
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    parts = []
    for positions in (columns, rows):
        angles = positions.reshape(-1, 1) * frequencies
        parts += [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts, axis=1).astype(np.float32)


# Rule -> method and antialiasing: cubic with a = -0.75 (torch's default) or -0.5 (with antialias).
_RESIZES = {"cubic": ("cubic-pytorch", False), "cubic_antialias": ("cubic", True)}
_RESIZES["linear_antialias"] = ("linear", True)


def resize_positions(positions: Array, h: int, w: int, rule: str = "cubic") -> Array:
    """Resize positions of a square grid (side * side, D) to (h * w, D).

    "cubic" is Hugging Face's rule for CLIP, "cubic_antialias" that of DINOv2 with registers and
    "linear_antialias" that of TIPSv2. Positions of an unchanged grid are returned as given.
    """
    side = int(round(positions.shape[0] ** 0.5))
    if (h, w) == (side, side):
        return positions
    grid = positions.reshape(side, side, -1)
    method, antialias = _RESIZES[rule]
    resized = jax.image.resize(grid, (h, w, grid.shape[-1]), method=method, antialias=antialias)
    return resized.reshape(h * w, -1)
