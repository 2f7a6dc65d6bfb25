"""Plans of the paper's recipe on TPU slices, from 4 to 256 chips.

    pip install "zeroseg_jax[plan]"
    python -m bench.speed.plans

`zeroseg plan` compiles for each slice; nothing runs on a chip. The batch of 4096 is accumulated
over as many pieces as leave a device at most ROWS images of a piece. An interrupted run resumes
after the last slice in --output; rows of an earlier planner and failed ones are made again. A plan
takes three to ten minutes of two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
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
    """Define the flags."""
    record.define_output("plans")
    absl_flags.DEFINE_list("plans", PLANS, "plans to make, each as RECIPE TOPOLOGY")


def main(arguments: list[str]) -> None:
    """Plan every slice; results are written after each."""
    del arguments
    earlier = record.read_earlier().get("plans", {})
    results = {"plans": {name: plan for name, plan in earlier.items() if is_current(plan)}}
    for name in FLAGS.plans:
        if name in results["plans"]:
            continue
        results["plans"][name] = _plan(*name.split())
        record.write(results)
    print(render_table(results["plans"]))


def is_current(plan: dict) -> bool:
    """Return whether a row was made by today's planner: it has parts of its time, or no fit."""
    return "seconds_by_part" in plan or plan.get("fits") is False


def _plan(recipe: str, topology: str) -> dict:
    chip, chips = parse_topology(topology)
    pieces = max(1, BATCH // (chips * chip.devices * ROWS))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        command = [
            sys.executable, "-m", "zeroseg_jax", "plan", f"--config=imagenet:{recipe}",
            f"--topology={topology}", f"--config.optim.batch_global={BATCH}",
            f"--config.optim.accumulate_steps={pieces}", f"--json={output}",
        ]  # fmt: skip
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            print(done.stderr, file=sys.stderr)
            return {"error": f"exit code {done.returncode}: {lines[-1][:300]}"}
        return json.loads(output.read_text())


def render_table(plans: dict[str, dict]) -> str:
    """Render the plans as a Markdown table."""
    lines = [
        "| slice | chips | pieces | GB a chip | GB moved | step s | images/s | MFU | chip-hours |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, plan in plans.items():
        if "error" in plan:
            lines.append(f"| {name} | {plan['error']} | | | | | | | |")
            continue
        memory = (
            f"{plan['peak_bytes_per_chip'] / 1e9:.1f} of {plan['hbm_bytes_per_chip'] / 1e9:.0f}"
        )
        first = f"| {name} | {plan['chips']} | {plan['accumulate_steps']} | {memory}"
        if not plan["fits"]:
            lines.append(f"{first}, too much | | | | | |")
            continue
        lines.append(
            f"{first} | {plan['moved_bytes_per_step'] / 1e9:.1f} | "
            f"{plan['estimated_step_seconds']:.3f} | {plan['images_per_second']:,.0f} | "
            f"{100 * plan['mfu']:.0f} % | {plan['chip_hours']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
