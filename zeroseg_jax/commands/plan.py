"""Memory and time of a run, before chips are rented: zeroseg plan --config=FILE --topology=v5e:8x8.

libtpu compiles the real training step for the topology, on a machine without TPUs
(pip install 'zeroseg_jax[plan]').
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags

_WORKER = "ZEROSEG_PLAN_WORKER"
# JAX must not search for a TPU, and several plans may compile at the same time.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    _WORKER: "1",
}
_SHOWN = 5


def define_flags() -> None:
    """Define the command line."""
    flags.define_recipe()
    absl_flags.DEFINE_string("topology", None, "KIND:SHAPE, for example v5e:8x8 or v5p:4x4x4")
    absl_flags.DEFINE_string("json", "", "JSON file of the plan; empty: none")
    absl_flags.DEFINE_integer(
        "images", 1281167, "number of training images, used where optim.steps is 0"
    )
    absl_flags.DEFINE_float(
        "price", 0.0, "price per chip and hour, for the cost of the run; 0: no cost", 0.0
    )
    absl_flags.DEFINE_bool("search", False, "search over meshes, accumulation and remat policies")
    absl_flags.DEFINE_integer(
        "candidates", 8, "number of candidates that --search compiles", lower_bound=1
    )
    absl_flags.mark_flags_as_required(["topology"])


def main(arguments: list[str]) -> int:
    """Compile in a separate process, because libtpu must not run in this one."""
    del arguments
    if os.environ.get(_WORKER):
        return _plan()
    if not importlib.util.find_spec("libtpu"):
        raise ValueError("plan: libtpu is not installed; pip install 'zeroseg_jax[plan]'.")
    command = [sys.executable, "-m", "zeroseg_jax", "plan", *sys.argv[1:]]
    done = subprocess.run(
        command, env={**os.environ, **_ENVIRONMENT}, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        # libtpu logs long warnings about missing worker names; only the error is printed.
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        print("\n".join(errors) or done.stderr, file=sys.stderr)
    return done.returncode


def _plan() -> int:
    from zeroseg_jax.data import files
    from zeroseg_jax.teacher.checkpoints.config import read_config
    from zeroseg_jax.teacher.load import find_teacher
    from zeroseg_jax.training.methods import set_width
    from zeroseg_jax.training.plan import planner
    from zeroseg_jax.training.workdir import describe_machine

    config, overrides = flags.read_config()
    if not config.model.embed_dim:
        located = find_teacher(config.teacher.directory)
        config = set_width(config, read_config(located.directory).embed_dim)
    given = planner.Assumptions(FLAGS.images, FLAGS.price)
    if FLAGS.search:
        plans = _search(config, given)
        print(_render_candidates(plans[:_SHOWN]))
    else:
        plans = [planner.plan_step(config, FLAGS.topology, given)]
    print(_render_plan(plans[0]))
    if FLAGS.json:
        record = {**plans[0], "config": config.name, "overrides": overrides, **describe_machine()}
        if FLAGS.search:
            record["candidates"] = plans
        files.write_json(FLAGS.json, record)
    return 0


def _search(config: Any, given: Any) -> list[dict[str, Any]]:
    from zeroseg_jax.training.plan import planner

    _, _, devices = planner.describe_devices(FLAGS.topology)
    candidates = planner.list_candidates(config, len(devices), FLAGS.candidates)
    if not candidates:
        raise ValueError(
            f"optim.batch_global: {config.optim.batch_global} fits no mesh of "
            f"{len(devices)} devices; use a multiple."
        )
    plans = []
    for number, candidate in enumerate(candidates, 1):
        plans.append(planner.plan_step(candidate, FLAGS.topology, given))
        print(f"plan: {number} of {len(candidates)} compiled", file=sys.stderr, flush=True)
    return sorted(
        plans, key=lambda plan: (not plan["fits"], plan.get("estimated_step_seconds", 0.0))
    )


def _render_candidates(plans: list[dict[str, Any]]) -> str:
    lines = ["mesh d x f x t  pieces  remat  GB a chip  fits  step s"]
    for plan in plans:
        mesh = " x ".join(str(size) for size in plan["mesh"].values())
        lines.append(
            f"{mesh:14s}  {plan['accumulate_steps']:6d}  {plan['remat']:5s}  "
            f"{plan['peak_bytes_per_chip'] / 1e9:9.2f}  {'yes' if plan['fits'] else 'no':4s}  "
            f"{plan.get('estimated_step_seconds', math.nan):.4f}"
        )
    return "\n".join(lines)


def _render_plan(plan: dict[str, Any]) -> str:
    from zeroseg_jax.training.plan.work_shares import render_plan as render_work

    if not plan["fits"]:
        return _render_misfit(plan)
    mesh = ", ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    names = {"compiled": "compiler's cycles", "kernels": "attention kernels by formula",
             "network": "collectives over the links"}  # fmt: skip
    parts = ", ".join(f"{names[k]} {1e3 * s:.1f} ms" for k, s in plan["seconds_by_part"].items())
    cycles = plan["cycles_by_phase"]
    phases = ", ".join(f"{k} {n / sum(cycles.values()):.0%}" for k, n in cycles.items())
    kinds = "".join(
        f"\n  {kind:19s} {one['count']:5d}, {one['bytes'] / 1e6:10.1f} MB sent a chip"
        for kind, one in plan["collectives"].items()
    )
    cost = "" if plan["cost"] is None else f", {plan['cost']:,.0f} at the price given"
    return f"""{plan["topology"]}: {plan["chips"]} chips of {plan["devices_per_chip"]} device(s), {mesh}, attention {plan["attention"]}
memory a chip, GB of {plan["hbm_bytes_per_chip"] / 1e9:.1f} (fits)
  parameters          {plan["parameter_bytes_per_chip"] / 1e9:7.3f}
  optimizer           {plan["optimizer_bytes_per_chip"] / 1e9:7.3f}
  batch               {plan["batch_bytes_per_chip"] / 1e9:7.3f}
  activations, grads  {plan["activation_bytes_per_chip"] / 1e9:7.3f}
  total               {plan["peak_bytes_per_chip"] / 1e9:7.3f}   (a device: {plan["peak_bytes_per_chip"] / 1e9 / plan["devices_per_chip"]:.3f})
operations            {plan["flops_per_step"] / 1e12:.1f} TFLOP a step, {plan["flops_per_image"] / 1e9:.1f} GFLOP an image
moved a chip          {plan["moved_bytes_per_step"] / 1e9:.2f} GB a step, {1e3 * plan["moved_seconds"]:.1f} ms at the memory's full rate
collectives           {plan["collective_bytes_per_step"] / 1e6:.1f} MB sent a chip and step{kinds}
step                  {1e3 * plan["estimated_step_seconds"]:.1f} ms: {parts}
compiler's cycles     {phases} (update: optimizer and norms)
throughput            {plan["images_per_second"]:,.0f} images/s, {100 * plan["mfu"]:.0f} % MFU
recipe                {plan["steps"]:,} steps, {plan["hours"]:.1f} hours, {plan["chip_hours"]:,.0f} chip-hours{cost}

{render_work(plan)}"""  # noqa: E501


def _render_misfit(plan: dict[str, Any]) -> str:
    from zeroseg_jax.training.plan.planner import suggest_fits

    return (
        f"{plan['topology']}: the step DOES NOT FIT: it needs "
        f"{plan['peak_bytes_per_chip'] / 1e9:.1f} GB a chip of "
        f"{plan['hbm_bytes_per_chip'] / 1e9:.1f} GB. Nearest by arithmetic: "
        f"{'; '.join(suggest_fits(plan))}. --search compiles such settings."
    )
