"""Biases and GELU in half precision: float32 sums, right derivatives, little to store."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.models.half_precision import Linear, add_bias, gelu

HALF = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])


@HALF
def test_the_gradient_of_a_bias_is_summed_in_float32(dtype):
    upstream = jax.random.uniform(jax.random.key(0), (50, 400, 8)).astype(dtype)

    def loss(bias):
        return (add_bias(jnp.zeros_like(upstream), bias) * upstream).sum(dtype=jnp.float32)

    found = jax.jit(jax.grad(loss))(jnp.zeros(8))
    assert found.dtype == jnp.float32
    exact = np.asarray(upstream, np.float64).sum((0, 1))
    # 20,000 terms: in bfloat16 a sum would stop growing at 256.
    np.testing.assert_allclose(found, exact, rtol=3e-6)


@HALF
def test_adding_a_bias_passes_values_and_gradients_on(dtype):
    x = jax.random.normal(jax.random.key(1), (3, 5, 8)).astype(dtype)
    bias = jax.random.normal(jax.random.key(2), (8,))
    value, back = jax.vjp(lambda x: add_bias(x, bias), x)
    np.testing.assert_array_equal(value, x + bias.astype(dtype))
    np.testing.assert_array_equal(back(x)[0], x)


@HALF
def test_gelu_has_the_values_of_jax_and_the_derivative_of_torch(dtype):
    torch = pytest.importorskip("torch", reason="torch is in the extra test")
    x = jnp.linspace(-6, 6, 4001).astype(dtype)
    np.testing.assert_array_equal(gelu(x), jax.nn.gelu(x, approximate=False))
    found = np.asarray(jax.vmap(jax.grad(gelu))(x), np.float64)
    theirs = torch.tensor(np.asarray(x, np.float64), requires_grad=True)
    torch.nn.functional.gelu(theirs).sum().backward()
    # One rounding to the dtype; 1e-7 absolute is float32 near 1, from which tails are subtracted.
    rounding = float(jnp.finfo(dtype).eps) / 2
    np.testing.assert_allclose(found, theirs.grad.numpy(), rtol=1.01 * rounding, atol=1e-7)


@HALF
def test_gelu_stores_its_input_alone(dtype):
    x = jnp.ones((16, 32), dtype)
    _, back = jax.vjp(gelu, x)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(back)) == x.nbytes
    _, of_jax = jax.vjp(lambda x: jax.nn.gelu(x, approximate=False), x)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(of_jax)) > x.nbytes


def test_in_float32_the_layer_is_that_of_flax():
    x = jax.random.normal(jax.random.key(3), (2, 7, 6))
    theirs = nn.Dense(5, kernel_init=nn.initializers.xavier_uniform())
    params = theirs.init(jax.random.key(4), x)
    ours = Linear(5)
    jax.tree.map(np.testing.assert_array_equal, params, ours.init(jax.random.key(4), x))

    def program(layer):
        return str(jax.make_jaxpr(jax.grad(lambda p: (layer.apply(p, x) ** 2).sum()))(params))

    assert program(ours) == program(theirs)
    np.testing.assert_array_equal(
        jax.grad(gelu)(0.3), jax.grad(lambda x: jax.nn.gelu(x, approximate=False))(0.3)
    )


def test_in_half_precision_the_layer_follows_that_of_flax():
    x = jax.random.normal(jax.random.key(5), (4, 9, 16)).astype(jnp.bfloat16)
    theirs = nn.Dense(8, dtype=jnp.bfloat16)
    params = theirs.init(jax.random.key(6), x)
    ours = Linear(8, jnp.bfloat16)
    np.testing.assert_array_equal(ours.apply(params, x), theirs.apply(params, x))
    mine, flax = (
        jax.grad(lambda p, m=m: (m.apply(p, x).astype(jnp.float32) ** 2).sum())(params)["params"]
        for m in (ours, theirs)
    )
    np.testing.assert_array_equal(mine["kernel"], flax["kernel"])
    # flax rounds each partial sum, below 32, to bfloat16: 36 times up to 2**-4.
    np.testing.assert_allclose(mine["bias"], flax["bias"], rtol=0, atol=0.5)
