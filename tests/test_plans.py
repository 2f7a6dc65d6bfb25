"""Arithmetic from a compiled step of four chips to larger slices: bench/speed/plans.py."""

import importlib.util
import json

import pytest

from bench.speed import plans
from tests.training.tiny import plan
from zeroseg_jax.training.plan.chips import CHIPS

CLOCK, MEMORY = CHIPS["v5e"].clock, CHIPS["v5e"].hbm_rate
PLAN = {
    "topology": "v5e:2x2",
    "batch_per_chip": 64.0,
    "batch_global": 256,
    "steps": 400,
    "fits": True,
    "parameter_bytes_per_chip": MEMORY / 1000,  # 1 ms to read
    "flops_per_image": 1e9,
    "seconds_by_part": {"compiled": 0.070, "kernels": 0.006, "network": 0.003},
    "cycles_by_phase": {"forward": 0.06 * CLOCK, "update": 0.010 * CLOCK},
}


def test_as_many_chips_take_the_time_that_was_compiled():
    found = plans.spread(PLAN, 4, 256)
    assert found["pieces"] == 1 and found["images"] == 256
    assert found["seconds"] == pytest.approx(0.079)
    assert found["images_per_second"] == pytest.approx(256 / 0.079)
    assert found["mfu"] == pytest.approx(256e9 / 0.079 / 4 / CHIPS["v5e"].flops)


def test_a_larger_ring_sends_more_and_pieces_repeat_all_but_the_update():
    # Each of 64 chips sends 63/64 of a sum twice where each of 4 sends 3/4.
    assert plans.spread(PLAN, 64, 4096)["seconds"] == pytest.approx(0.076 + 0.003 * 63 / 48)
    # 16 pieces, each with its sum over the chips and three passes over the gradients.
    found = plans.spread(PLAN, 4, 4096)
    assert (found["pieces"], found["images"]) == (16, 4096)
    assert found["seconds"] == pytest.approx(16 * (0.060 + 0.006 + 0.003 + 0.003) + 0.010)


def test_the_table_of_slices_has_those_that_the_batch_fills():
    lines = plans.render_slices({"imagenet:vit_b16 v5e:2x2 64": PLAN}).splitlines()[2:]
    assert [line.split("|")[2].strip() for line in lines] == ["4", "16", "64"]
    seconds = plans.spread(PLAN, 64, 4096)["seconds"]
    hours = 400 * 256 / (4096 / seconds) / 3600 * 64
    assert f"| {hours:,.0f} |" in lines[-1]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is an extra: plan")
def test_the_arithmetic_agrees_with_a_compiled_larger_slice(tmp_path):
    few, many = (compile_tiny(tmp_path, *slice_) for slice_ in (("v5e:2x2", 64), ("v5e:4x4", 256)))
    found = plans.spread(few, 16, 256)
    assert found["pieces"] == 1
    # The schedules of the two differ by a few instructions.
    assert found["seconds"] == pytest.approx(many["estimated_step_seconds"], rel=0.03)
    ring = (1 - 1 / 16) / (1 - 1 / 4)
    assert many["collective_bytes_per_step"] == pytest.approx(
        ring * few["collective_bytes_per_step"], rel=0.01
    )


def compile_tiny(tmp_path, topology, batch):
    out = tmp_path / "plan.json"
    done = plan(
        tmp_path, f"--topology={topology}", f"--config.optim.batch_global={batch}", f"--json={out}"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())
