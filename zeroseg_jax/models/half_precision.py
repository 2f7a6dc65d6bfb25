"""Gradients of biases and of GELU in half precision: sums in float32, and little to store.

JAX sums the gradient of a bfloat16 bias in bfloat16, thousands of terms into 8 bits of mantissa,
and keeps intermediates of GELU for the backward pass. In float32 nothing here differs from JAX.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def add_bias(x: Array, bias: Array, *, by_product: bool = False) -> Array:
    """Add a bias to the last axis.

    Args:
      x: (..., D), float32 or half precision.
      bias: float32 (D,); its gradient is summed in float32.
      by_product: True sums it in a matrix product with ones instead of a reduction. On a TPU that
        costs a twentieth where the gradient of x comes out of a kernel, and more than a reduction
        where the compiler can reduce in the product that makes it. For bfloat16 alone: CPUs sum
        products of float16 in float16.

    Returns:
      (..., D) of x's dtype.
    """
    if x.dtype == jnp.float32:
        return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))
    return _add_bias(x, bias, by_product)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _add_bias(x: Array, bias: Array, by_product: bool) -> Array:
    return x + bias.astype(x.dtype)


def _add_bias_forward(x: Array, bias: Array, by_product: bool) -> tuple[Array, None]:
    return _add_bias(x, bias, by_product), None


def _add_bias_backward(by_product: bool, kept: None, gradient: Array) -> tuple[Array, Array]:
    axes = tuple(range(gradient.ndim - 1))
    if not by_product or gradient.dtype != jnp.bfloat16:
        return gradient, jnp.sum(gradient, axes, dtype=jnp.float32)
    ones = jnp.ones(gradient.shape[:-1], gradient.dtype)
    summed = jax.lax.dot_general(
        ones, gradient, ((axes, axes), ((), ())), preferred_element_type=jnp.float32
    )
    return gradient, summed


_add_bias.defvjp(_add_bias_forward, _add_bias_backward)


class Linear(nn.Module):
    """Linear layer along the last axis: nn.Dense, with add_bias for its bias."""

    features: int
    dtype: Any = jnp.float32
    by_product: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape[1:])
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        product = jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))
        return add_bias(product, bias, by_product=self.by_product)


def gelu(x: Array) -> Array:
    """Return the exact GELU, x times the normal distribution function (Hendrycks and Gimpel 2016).

    Args:
      x: any shape. In half precision the backward pass keeps x alone and computes the derivative
        in float32.
    """
    return jax.nn.gelu(x, approximate=False) if x.dtype == jnp.float32 else _gelu(x)


@jax.custom_vjp
def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return _gelu(x), x


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    wide = x.astype(jnp.float32)
    below = 0.5 * jax.lax.erfc(-math.sqrt(0.5) * wide)
    density = jnp.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return (((below + wide * density) * gradient.astype(jnp.float32)).astype(x.dtype),)


_gelu.defvjp(_gelu_forward, _gelu_backward)
