"""SegFormer's encoder (MiT) and its all-MLP head, for the dense student.

Letters: B images; h_i, w_i height and width of stage i's grid (a quarter of the image, then halved
per stage); D_i its width.

Source: Xie et al., NeurIPS 2021 (arXiv 2105.15203); sizes and eps as in its released checkpoints.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from zeroseg_jax.models.layers import (
    ACTIVATIONS,
    LayerNorm,
    attention_weights,
    join_heads,
    remat_block,
    split_heads,
)

Array = jax.Array
_EPS = 1e-5
_KERNELS, _STRIDES = (7, 3, 3, 3), (4, 2, 2, 2)
STATISTICS = "statistics"  # collection of the next running statistics; mutable in training alone
_MOMENTUM = 0.1  # share of the batch in the next running statistics, torch's default


@dataclasses.dataclass(frozen=True)
class MitConfig:
    """Sizes of the four stages of MiT."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)  # stride of the grid of keys and values
    mlp_ratio: int = 4


_WIDE = (64, 128, 320, 512)
MIT_SIZES: dict[str, MitConfig] = {
    "mit_b0": MitConfig((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": MitConfig(_WIDE, (2, 2, 2, 2)),
    "mit_b2": MitConfig(_WIDE, (3, 4, 6, 3)),
    "mit_b3": MitConfig(_WIDE, (3, 4, 18, 3)),
    "mit_b4": MitConfig(_WIDE, (3, 8, 27, 3)),
    "mit_b5": MitConfig(_WIDE, (3, 6, 40, 3)),
    # For the Playground's images of 96 px; not a published size.
    "mit_tiny": MitConfig((16, 32, 64, 96), (1, 1, 1, 1), (1, 1, 2, 3), (4, 2, 1, 1)),
}


class MixTransformer(nn.Module):
    """MiT encoder: float32 (B, Hpx, Wpx, 3) to four maps (B, h_i, w_i, D_i).

    `drop_path` is the rate of stochastic depth in the last block; it rises linearly from 0 in the
    first. It needs a random key named "drop"; without one nothing is dropped.
    """

    config: MitConfig
    dtype: Any = jnp.float32
    remat: str = "none"
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, images: Array) -> list[Array]:
        config, x, maps = self.config, images.astype(self.dtype), []
        block = remat_block(self.remat, MixBlock)
        rates = iter(drop_rates(config, self.drop_path))
        for stage, width in enumerate(config.widths):
            x = _conv(width, _KERNELS[stage], _STRIDES[stage], self.dtype, f"embedding_{stage}")(x)
            x = LayerNorm(_EPS, name=f"embedding_norm_{stage}")(x)
            for i in range(config.depths[stage]):
                x = block(
                    config.heads[stage],
                    config.reductions[stage],
                    config.mlp_ratio,
                    self.dtype,
                    next(rates),
                    name=f"stage_{stage}_block_{i}",
                )(x)
            x = LayerNorm(_EPS, name=f"stage_norm_{stage}")(x)
            maps.append(x)
        return maps


class MixBlock(nn.Module):
    """Attention to a reduced grid, and an MLP with a depthwise convolution: (B, h, w, D)."""

    heads: int
    reduction: int
    mlp_ratio: int
    dtype: Any = jnp.float32
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, width = x.shape
        attended = self._attend(LayerNorm(_EPS, name="norm1")(x)).reshape(b, h, w, width)
        x = x + self._drop(attended)
        y = LayerNorm(_EPS, name="norm2")(x)
        y = nn.Dense(width * self.mlp_ratio, dtype=self.dtype, name="fc1")(y)
        y = ACTIVATIONS["gelu"](DepthwiseConv(self.dtype, name="depthwise")(y))
        return x + self._drop(nn.Dense(width, dtype=self.dtype, name="fc2")(y))

    def _drop(self, branch: Array) -> Array:
        return drop(self, branch, self.drop_path, (len(branch), 1, 1, 1))

    def _attend(self, x: Array) -> Array:
        b, _, _, width = x.shape
        keys = x
        if self.reduction > 1:
            r = self.reduction
            keys = _conv(width, r, r, self.dtype, "reduction", padding=0)(x)
            keys = LayerNorm(_EPS, name="reduction_norm")(keys)
        x, keys = x.reshape(b, -1, width), keys.reshape(b, -1, width)

        def project(name: str, y: Array) -> Array:
            return nn.Dense(width, dtype=self.dtype, name=name)(y)

        q, k, v = (
            split_heads(project(name, y), self.heads)
            for name, y in (("query", x), ("key", keys), ("value", keys))
        )
        weights = attention_weights(q, k).astype(self.dtype)
        return project("out", join_heads(weights @ v))


class DepthwiseConv(nn.Module):
    """Depthwise 3 x 3 convolution with zero padding: (B, h, w, D)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal", in_axis=2, out_axis=3)
        kernel = self.param("kernel", init, (3, 3, 1, width)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (width,)).astype(self.dtype)
        h, w = x.shape[1:3]
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        # Nine shifted products, because XLA's grouped convolution is many times slower on a CPU.
        shifts = [(i, j) for i in range(3) for j in range(3)]
        return bias + sum(padded[:, i : i + h, j : j + w] * kernel[i, j, 0] for i, j in shifts)


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last: (..., D), computed in float32, returned in x's dtype.

    In training, where the collection "statistics" is mutable, x is normalised by its own mean and
    biased variance. Under jit the means are those of the whole array, however its batch is split
    over devices, as in torch's SyncBatchNorm. The next running mean and variance, float32 (D,), are
    stored in the collection as `mean` and `variance`. Else x is normalised by the running ones.

    The running statistics are parameters of the same names, because checkpoints, exports and
    inference hold parameters. The output in training does not depend on them, so their gradient is
    0; the step replaces them.

    Source: Ioffe and Szegedy, ICML 2015 (arXiv 1502.03167); eps, momentum and the unbiased running
    variance are torch's BatchNorm2d.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape, zeros, ones = (x.shape[-1],), nn.initializers.zeros, nn.initializers.ones
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean, variance = self.param("mean", zeros, shape), self.param("variance", ones, shape)
        y = x.astype(jnp.float32)
        if self.is_mutable_collection(STATISTICS) and not self.is_initializing():
            rows = y.size // y.shape[-1]
            running = mean, variance
            mean = y.mean(axis=range(y.ndim - 1))
            variance = jnp.square(y - mean).mean(axis=range(y.ndim - 1))
            found = mean, variance * (rows / max(rows - 1, 1))
            for name, old, new in zip(("mean", "variance"), running, found, strict=True):
                self.put_variable(STATISTICS, name, old + _MOMENTUM * (new - old))
        y = (y - mean) * jax.lax.rsqrt(variance + _EPS) * scale + bias
        return y.astype(x.dtype)


class AllMlpHead(nn.Module):
    """SegFormer's head without its classifier: four maps to (B, h_0, w_0, hidden).

    With `norm` "batch" a BatchNorm follows `fuse`, which has no bias then, as in NVlabs's head and
    Hugging Face's (mmsegmentation's own has one after each stage's layer too). `dropout` is the
    share of dropped channels; see MixTransformer for the random key.
    """

    hidden: int
    dtype: Any = jnp.float32
    dropout: float = 0.0
    norm: str = "none"

    @nn.compact
    def __call__(self, maps: list[Array]) -> Array:
        b, h, w, _ = maps[0].shape
        parts = []
        for stage, x in enumerate(maps):
            x = nn.Dense(self.hidden, dtype=self.dtype, name=f"stage_{stage}")(x)
            parts.append(jax.image.resize(x, (b, h, w, self.hidden), "bilinear", antialias=False))
        x = jnp.concatenate(parts[::-1], -1)
        norms = self.norm == "batch"
        x = nn.Dense(self.hidden, use_bias=not norms, dtype=self.dtype, name="fuse")(x)
        x = BatchNorm(name="fuse_norm")(x) if norms else x
        return drop(self, jax.nn.relu(x), self.dropout, (b, 1, 1, self.hidden))


def drop_rates(config: MitConfig, rate: float) -> list[float]:
    """Return the rate of stochastic depth of each block: from 0 linearly to `rate`."""
    count = sum(config.depths)
    return [rate * i / max(count - 1, 1) for i in range(count)]


def drop(module: nn.Module, x: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """Set random parts of x to 0 and scale the rest by 1 / (1 - rate), in training.

    Args:
      module: module with the random key "drop"; without the key x is returned.
      x: array.
      rate: share of dropped parts.
      shape: shape of the random mask, which is broadcast to that of x.
    """
    if not rate or not module.has_rng("drop"):
        return x
    kept = jax.random.bernoulli(module.make_rng("drop"), 1 - rate, shape)
    return x * kept.astype(x.dtype) / (1 - rate)


def _conv(
    width: int, kernel: int, stride: int, dtype: Any, name: str, padding: int | None = None
) -> nn.Conv:
    around = kernel // 2 if padding is None else padding
    return nn.Conv(
        width, (kernel, kernel), (stride, stride), ((around, around),) * 2, dtype=dtype, name=name
    )
