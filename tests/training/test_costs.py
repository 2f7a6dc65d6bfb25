"""Operations are counted right, loops included."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType

from zeroseg_jax.models.fused_attention import attend_fused
from zeroseg_jax.training.plan import costs


def test_operations_equal_those_that_xla_counts_where_nothing_is_a_loop():
    def fn(x, a, b):
        hidden = jnp.einsum("bld,dm->blm", x, a)
        scores = jnp.einsum("blm,bkm->blk", hidden, jnp.einsum("bld,dm->blm", x, b))
        return (scores * scores).sum()  # so that the gradient needs them

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((4, 32, 64), (64, 128), (64, 128))]
    counted = costs.count_flops(jax.grad(fn, argnums=(1, 2)), *shapes)
    reported = jax.jit(jax.grad(fn, argnums=(1, 2))).lower(*shapes).compile().cost_analysis()
    # XLA counts sums and casts too: small beside the products.
    assert counted == pytest.approx(reported["flops"], rel=0.02)


def test_operations_in_loops_count_as_often_as_they_run():
    def fn(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0]

    assert costs.count_flops(fn, jnp.ones((8, 8))) == 7 * 2 * 8**3
    again = costs.count_flops(jax.grad(lambda x: jax.checkpoint(fn)(x).sum()), jnp.ones((8, 8)))
    # Forward, forward again, and two products a round on the way back.
    assert again == 4 * 7 * 2 * 8**3
    with pytest.raises(ValueError, match="loop of unknown length"):
        costs.count_flops(
            lambda x: jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c @ c, x),
            jnp.ones((2, 2)),
        )


def test_operations_of_kernels_are_those_of_all_devices():
    rows = jax.ShapeDtypeStruct((4, 130, 256), jnp.float32)
    mesh = jax.make_mesh((2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2,
                         devices=jax.devices()[:4])  # fmt: skip

    def attend(q, k, v):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return attend_fused(q, k, v, 4).sum()

    forward = 2 * 2 * 4 * 256 * 130**2
    assert costs.count_flops(attend, rows, rows, rows) == forward
    # Forward, and five products on the way back.
    both = costs.count_flops(jax.grad(attend, (0, 1, 2)), rows, rows, rows)
    assert both == forward // 2 * 7
