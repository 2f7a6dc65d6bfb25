"""Plans of the recipes on TPU slices of 4 to 256 chips: training steps and the teacher's bank.

    pip install "zeroseg_jax[plan]"
    python -m bench.speed.plans

`zeroseg plan` compiles the step of every row of PROGRAMS for four chips; nothing runs on a chip.
Data parallel, a chip of a larger slice has the same program, and the ring gives the bytes of its
collectives. So larger slices are by arithmetic (`spread`), and the teacher by the compiled forward
passes of bench.speed.compiled_teacher. An interrupted run resumes; failed rows are made again. A
plan takes five to twenty minutes of a core.
"""

from __future__ import annotations

import concurrent.futures
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.training.plan.chips import parse_topology
from zeroseg_jax.training.plan.work_shares import render_plan

# Recipe, slice of four chips, images a chip.
PROGRAMS = [
    "imagenet:vit_b16 v5e:2x2 64",
    "imagenet:vit_b16 v5p:2x2x1 64",
    "imagenet:vit_l16 v5e:2x2 64",
    "zeroseg_plus:imagenet v5e:2x2 64",
    "imagenet:vit_s16 v5e:2x2 64",
    "clip_zss:voc v5e:2x2 4",
    "imagenet:vit_b16 v5e:2x2 16",
    "imagenet:vit_b16 v6e:2x2 64",
]
CHIPS, BATCH = (4, 16, 64, 256), 4096  # of the larger slices
TEACHERS = Path("docs/results/compiled_teacher.json")
# Images of ImageNet, and views of each in a bank of grids 1 to 4.
IMAGES, VIEWS = 1_281_167, 30


def define_flags() -> None:
    """Define the flags."""
    record.define_output("plans")
    absl_flags.DEFINE_list("programs", PROGRAMS, "steps to compile: RECIPE SLICE IMAGES-A-CHIP")
    absl_flags.DEFINE_integer("jobs", 1, "plans at a time", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Plan every step; results are written after each."""
    del arguments
    earlier = record.read_earlier().get("plans", {})
    plans = {name: plan for name, plan in earlier.items() if "error" not in plan}
    missing = [name for name in FLAGS.programs if name not in plans]
    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        started = {pool.submit(_plan, *name.split()): name for name in missing}
        for done in concurrent.futures.as_completed(started):
            plans[started[done]] = done.result()
            record.write({"plans": plans})
    plans = {name: plans[name] for name in FLAGS.programs}
    print(render_programs(plans), render_slices(plans), render_teachers(), sep="\n\n")
    for name, plan in plans.items():
        if plan.get("work"):
            print(f"\n{name}\n\n{render_plan(plan)}")


def _plan(recipe: str, topology: str, images: str) -> dict[str, Any]:
    _, chips = parse_topology(topology)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        command = [
            sys.executable, "-m", "zeroseg_jax", "plan", f"--config={recipe}",
            f"--topology={topology}", f"--config.optim.batch_global={chips * int(images)}",
            f"--json={output}",
        ]  # fmt: skip
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            print(done.stderr, file=sys.stderr)
            return {"error": f"exit code {done.returncode}: {lines[-1][:300]}"}
        return json.loads(output.read_text())


def spread(plan: dict[str, Any], chips: int, batch: int) -> dict[str, float]:
    """Compute a step of a larger slice from a plan, by arithmetic.

    Args:
      plan: plan of a few chips, data parallel.
      chips: number of chips of the slice.
      batch: images of a step; accumulated in pieces where the chips take fewer at a time.

    Returns:
      pieces, images a step, seconds a step, images a second, mfu.
    """
    chip, few = parse_topology(plan["topology"])
    parts = plan["seconds_by_part"]
    pieces = max(1, math.ceil(batch / (plan["batch_per_chip"] * chips)))
    update = plan["cycles_by_phase"]["update"] / chip.clock
    # A further piece reads the sum of gradients and its own, and writes the sum.
    adding = 3 * plan["parameter_bytes_per_chip"] / chip.hbm_rate if pieces > 1 else 0.0
    ring = (1 - 1 / chips) / (1 - 1 / few)
    piece = parts["compiled"] - update + parts["kernels"] + adding + ring * parts["network"]
    seconds = pieces * piece + update
    images = pieces * plan["batch_per_chip"] * chips
    rate = images / seconds
    return {
        "pieces": pieces,
        "images": images,
        "seconds": seconds,
        "images_per_second": rate,
        "mfu": rate * plan["flops_per_image"] / chips / chip.flops,
    }


def render_programs(plans: dict[str, dict[str, Any]]) -> str:
    """Render the compiled steps of four chips as a Markdown table."""
    lines = [
        "| recipe, slice, images a chip | GB a chip | GB moved | ms | compiled | kernels | links "
        "| update | MFU |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, plan in plans.items():
        if "error" in plan:
            lines.append(f"| {name} | {plan['error']} | | | | | | | |")
            continue
        memory = (
            f"{plan['peak_bytes_per_chip'] / 1e9:.1f} of {plan['hbm_bytes_per_chip'] / 1e9:.0f}"
        )
        if not plan["fits"]:
            lines.append(f"| {name} | {memory}, too much | | | | | | | |")
            continue
        cycles = plan["cycles_by_phase"]
        milliseconds = " | ".join(f"{1e3 * part:.1f}" for part in plan["seconds_by_part"].values())
        lines.append(
            f"| {name} | {memory} | {plan['moved_bytes_per_step'] / 1e9:.1f} | "
            f"{1e3 * plan['estimated_step_seconds']:.1f} | {milliseconds} | "
            f"{cycles['update'] / sum(cycles.values()):.0%} | {100 * plan['mfu']:.0f} % |"
        )
    return "\n".join(lines)


def render_slices(plans: dict[str, dict[str, Any]]) -> str:
    """Render steps of recipes on ImageNet by number of chips as a Markdown table."""
    lines = [
        "| recipe, chip | chips | images a chip x pieces | images/s | MFU | chip-hours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, plan in plans.items():
        recipe, topology, rows = name.split()
        if not plan.get("fits") or recipe.startswith("clip_zss"):  # its batch is 16
            continue
        # The recipe's images: its batch and steps at any slice.
        images = plan["steps"] * plan["batch_global"]
        for chips in CHIPS:
            if int(rows) * chips > BATCH:
                continue
            found = spread(plan, chips, BATCH)
            hours = images / found["images_per_second"] / 3600
            lines.append(
                f"| {recipe}, {topology.partition(':')[0]} | {chips} | {rows} x "
                f"{found['pieces']:.0f} | {found['images_per_second']:,.0f} | "
                f"{100 * found['mfu']:.0f} % | {hours * chips:,.0f} |"
            )
    return "\n".join(lines)


def render_teachers() -> str:
    """Render the chip-hours of a bank of ImageNet by teacher and chip as a Markdown table."""
    lines = [
        f"| teacher, chip | images/s a chip | MFU | chip-hours of {VIEWS} views an image |",
        "|---|---:|---:|---:|",
    ]
    for name, row in record.read_earlier(TEACHERS).get("rows", {}).items():
        model, chip, form = name.split(", ")
        if form == "fused whole":
            hours = IMAGES * VIEWS / row["images_per_second"] / 3600
            lines.append(
                f"| {model}, {chip} | {row['images_per_second']:,.0f} | {100 * row['mfu']:.0f} % "
                f"| {hours:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
