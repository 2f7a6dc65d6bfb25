"""What the paper's recipe takes on slices of TPUs, from 4 to 256 chips.

    pip install "zeroseg_jax[plan]"
    python -m bench.speed.plans

Each slice is planned by python -m zeroseg_jax plan, one after the other: nothing is run on a
chip. The batch of 4096 goes through in as many pieces as leave a device ROWS of a piece at most.
An interrupted run goes on behind the last slice that its output holds; the table of
docs/scaling.md is what it prints at the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.data.files import write_json
from zeroseg_jax.training.metrics import describe_machine
from zeroseg_jax.training.plan.chips import parse_topology

SLICES = (
    "v5e:2x2", "v5e:8x8", "v5e:16x16", "v6e:2x2", "v6e:8x8", "v4:4x4x4",
    "v5p:2x2x1", "v5p:4x4x4", "v5p:4x8x8", "tpu7x:2x2x1", "tpu7x:4x8x8",
)  # fmt: skip
LARGE_SLICES = ("v5e:16x16", "v5p:2x2x1", "v5p:4x8x8")
PLANS = [f"vit_b16 {topology}" for topology in SLICES]
PLANS += [f"vit_l16 {topology}" for topology in LARGE_SLICES]
BATCH, ROWS = 4096, 64


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", "docs/results/plans.json", "raw results")
    absl_flags.DEFINE_list("plans", PLANS, "which, as RECIPE TOPOLOGY")


def main(arguments: list[str]) -> None:
    """Plan every slice; results are written after each."""
    del arguments
    path = Path(FLAGS.output)
    results = {"command": "python -m bench.speed.plans", **describe_machine(), "plans": {}}
    if path.is_file():
        results["plans"] = json.loads(path.read_text())["plans"]
    for name in FLAGS.plans:
        if name in results["plans"]:
            continue
        results["plans"][name] = _plan(*name.split())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
    print(write_table(results["plans"]))


def _plan(recipe: str, topology: str) -> dict:
    chip, chips = parse_topology(topology)
    pieces = max(1, BATCH // (chips * chip.devices * ROWS))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        command = [
            sys.executable, "-m", "zeroseg_jax", "plan", f"--config=configs/imagenet.py:{recipe}",
            f"--topology={topology}", f"--config.optim.batch_global={BATCH}",
            f"--config.optim.accumulate_steps={pieces}", f"--json={output}",
        ]  # fmt: skip
        subprocess.run(command, check=True)
        return json.loads(output.read_text())


def write_table(plans: dict[str, dict]) -> str:
    """Write the plans as a Markdown table."""
    lines = [
        "| slice | chips | pieces | GB a chip | bound | MB sent | step s | images/s | chip-hours |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, plan in plans.items():
        memory = (
            f"{plan['peak_bytes_per_chip'] / 1e9:.1f} of {plan['hbm_bytes_per_chip'] / 1e9:.0f}"
        )
        if not plan["fits"]:
            memory += ", too much"
        lines.append(
            f"| {name} | {plan['chips']} | {plan['accumulate_steps']} | {memory} | "
            f"{plan['bound']} | {plan['collective_bytes_per_step'] / 1e6:,.0f} | "
            f"{plan['estimated_step_seconds']:.3f} | {plan['images_per_second']:,.0f} | "
            f"{plan['chip_hours']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
