"""Candidates of a search, and one real compilation for a TPU slice."""

import importlib.util
import json

import pytest

from tests.training.tiny import TINY, plan
from zeroseg_jax.config import from_mapping
from zeroseg_jax.training.plan.chips import CHIPS
from zeroseg_jax.training.plan.planner import (
    estimate_kernel,
    list_candidates,
    read_needed_bytes,
    suggest_fits,
)
from zeroseg_jax.training.plan.program import Kernel


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


def test_the_need_of_a_step_that_does_not_fit_is_read_and_answered():
    message = (
        "the total memory required for HLO temporaries (23.84G) exceeds available HBM (15.75G)"
    )
    assert read_needed_bytes(message) == pytest.approx(23.84 * 2**30)
    assert read_needed_bytes("Used 512.00M of 15.75G hbm") == pytest.approx(2**29)
    assert read_needed_bytes("INTERNAL: something else") == 0
    plan = {
        "parameter_bytes_per_chip": 1e9, "optimizer_bytes_per_chip": 2e9, "chips": 4,
        "hbm_bytes_per_chip": 17e9, "peak_bytes_per_chip": 28e9, "accumulate_steps": 1,
        "batch_global": 4096, "mesh": {"data": 4, "fsdp": 1, "tensor": 1}, "remat": "none",
    }  # fmt: skip
    # 25 GB of activations into 12.3 GB: a quarter fits, a half does not.
    found = suggest_fits(plan)
    assert found == ["optim.accumulate_steps=4", "16 chips", "run.remat=dots or full"]
    assert suggest_fits(plan | {"optimizer_bytes_per_chip": 20e9})[0].startswith("mesh.fsdp=4")


def test_kernel_seconds_by_hand():
    # 64 images, 12 heads of 64 (128 lanes), 197 rows of 256 keys, on the chip's 197 TFLOP/s.
    scores = 64 * 12 * 197 * 256
    forward = 2 * 2 * scores * 128 / 197e12 + 10 * scores / (4 * 1024 * 1.5e9)
    kernel = Kernel(False, (64, 197, 768), 64, 12)
    assert estimate_kernel(kernel, CHIPS["v5e"]) == pytest.approx(12 * forward)


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
    work, phases = found["work"], found["cycles_by_phase"]
    kernels = sum(share["cycles"] for share in work) - sum(phases.values())
    assert kernels == pytest.approx(found["seconds_by_part"]["kernels"] * CHIPS["v5e"].clock)
    assert sum(share["bytes"] for share in work) == found["moved_bytes_per_step"]
    # Every product of the step belongs to a part of the student or to the losses.
    assert sum(share["flops"] for share in work) * 4 == pytest.approx(found["flops_per_step"])
    assert not any(s["flops"] for s in work if s["part"] in ("update", "copies"))
    assert "| encoder | MLP |" in done.stdout


@pytest.mark.skipif(bool(importlib.util.find_spec("libtpu")), reason="libtpu is here")
def test_without_libtpu_a_plan_says_what_to_install(tmp_path):
    done = plan(tmp_path, "--topology=v5e:2x2")
    assert done.returncode == 2
    assert "error: plan: libtpu is not installed; pip install" in done.stderr
