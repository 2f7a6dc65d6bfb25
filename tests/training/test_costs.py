"""Operations and collectives are counted right, loops included."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from zeroseg_jax.training.plan import costs

ROOT = Path(__file__).parent.parent.parent
HLO = """HloModule test

%body.1 (param: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %ar = f32[8,4]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%sum
}

ENTRY %main.2 (p0: f32[8,4]) -> f32[8,4] {
  %w = (s32[], f32[8,4]) while(%t), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
  %ag = bf16[16,4]{1,0} all-gather(%y), channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}
  %again = bf16[16,4]{1,0} all-gather(%y), channel_id=2, replica_groups=[2,4]<=[8], dimensions={0}
  %rs = f32[2,4]{1,0} reduce-scatter(%z), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a','b'}, dimensions={0}
  %tuple = (f32[10], bf16[6]) all-reduce(%u, %v), channel_id=4, replica_groups={}, to_apply=%sum
}
"""  # noqa: E501


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


def test_collectives_count_by_kind_with_groups_loops_and_channels():
    found = costs.count_collectives(HLO, 8)
    assert set(found) == {"all-reduce", "all-gather", "reduce-scatter"}
    ring = 2 * 1 / 2 * 8 * 4 * 4 * 5 + 2 * 7 / 8 * (10 * 4 + 6 * 2)
    assert found["all-reduce"] == costs.Collective(6, ring)
    assert found["all-gather"] == costs.Collective(1, 3 / 4 * 16 * 4 * 2)
    assert found["reduce-scatter"] == costs.Collective(1, 7 / 8 * 8 * 2 * 4 * 4)
