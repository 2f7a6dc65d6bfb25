"""The plan: operations and collectives counted right, topologies, and one real compilation."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.training.tiny import TINY
from zeroseg_jax.config import from_mapping
from zeroseg_jax.training.plan import costs
from zeroseg_jax.training.plan.chips import CHIPS, parse_topology
from zeroseg_jax.training.plan.planner import list_candidates

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


def test_topologies():
    assert parse_topology("v5e:16x16") == (CHIPS["v5e"], 256)
    assert parse_topology("tpu7x:4x4x4") == (CHIPS["tpu7x"], 64)
    for bad, sentence in (("v9:2x2", "names no known chip"), ("v5e:2x2x2", "does not have 2 sides"),
                          ("v5p:4xx4", "does not have 3 sides"), ("v6e", "2 sides")):  # fmt: skip
        with pytest.raises(ValueError, match=f"--topology: '{bad}' {sentence}|{sentence}"):
            parse_topology(bad)


def test_candidates_fit_and_begin_with_the_plainest():
    config = from_mapping(TINY)
    found = list_candidates(config, 8, 6)
    assert len(found) == 6
    first = found[0]
    assert (first.mesh.fsdp, first.mesh.tensor, first.run.remat) == (1, 1, "none")
    for candidate in list_candidates(config, 8, 100):
        inner = candidate.mesh.fsdp * candidate.mesh.tensor
        assert 8 % inner == 0
        assert 8 % (8 // candidate.mesh.tensor * candidate.optim.accumulate_steps) == 0


def plan(tmp_path, *arguments):
    recipe = tmp_path / "tiny.py"
    tiny = {**TINY, "mesh": {"data": -1}, "run": {"dtype": "bfloat16"}}
    recipe.write_text(
        "from ml_collections import ConfigDict\nfrom zeroseg_jax.config import *\n\n\n"
        f"def get_config():\n    return ConfigDict(to_mapping(from_mapping({tiny!r})))\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "plan", f"--config={recipe}", *arguments],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is an extra: plan")
def test_the_real_step_compiles_for_a_tpu_that_is_not_here(tmp_path):
    out = tmp_path / "plan.json"
    done = plan(tmp_path, "--topology=v5e:2x2", "--config.mesh.fsdp=2", f"--json={out}",
                "--price=1.2", "--config.optim.batch_global=64")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    for key in ("topology", "chips", "hbm_bytes_per_chip", "peak_bytes_per_chip", "fits",
                "flops_per_step", "collective_bytes_per_step", "estimated_step_seconds",
                "images_per_second"):  # fmt: skip
        assert key in found
    assert found["chips"] == 4 and found["fits"] and found["mesh"]["fsdp"] == 2
    assert found["collectives"] and found["cost"] > 0
    assert found["estimated_step_seconds"] * found["images_per_second"] == pytest.approx(64)
    assert "4 chips of 1 device(s)" in done.stdout


@pytest.mark.skipif(bool(importlib.util.find_spec("libtpu")), reason="libtpu is here")
def test_without_libtpu_a_plan_says_what_to_install(tmp_path):
    done = plan(tmp_path, "--topology=v5e:2x2")
    assert done.returncode == 2
    assert "error: plan: libtpu is not installed; pip install" in done.stderr
