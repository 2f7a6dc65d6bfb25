"""Run a config's sweep() and collect it: python -m zeroseg_jax sweep --config=... --workdir=DIR.

Point NNN trains in WORKDIR/NNN from the bank WORKDIR/bank, unless data.bank is set; with
--evaluate=BENCHMARKS each is scored too, into WORKDIR/NNN/reports/BENCHMARK; what is trained and
has its reports is left as it is.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping

Point = dict[str, Any]


def define_flags() -> None:
    """Define the command line."""
    flags.define_config()
    absl_flags.DEFINE_string("evaluate", "", "score each point on these, with commas")
    absl_flags.DEFINE_string("evaluate_with", "", "more flags of evaluate, as one string")
    absl_flags.DEFINE_integer("jobs", 1, "points that run at a time", lower_bound=1)
    absl_flags.DEFINE_enum(
        "print", "", ["", "commands", "slurm", "jobset"], "print instead of running"
    )
    absl_flags.DEFINE_bool("collect", False, "make tables and plots of what has run")
    absl_flags.DEFINE_string("metric", "loss", "to plot and to tell mean and spread of")
    absl_flags.DEFINE_string("against", "", "swept field to plot against; empty: the first")


def main(arguments: list[str]) -> int:
    """Run, print or collect the points of --config's sweep."""
    del arguments
    points = read_points()
    workdir = Path(FLAGS.workdir)
    if FLAGS.collect:
        from zeroseg_jax.evaluation.sweep_tables import collect

        print(collect(workdir, points, metric=FLAGS.metric, against=FLAGS.against))
        return 0
    commands = [build_commands(workdir, number, point) for number, point in enumerate(points)]
    if FLAGS.print:
        print(_PRINTERS[FLAGS.print](workdir, commands))
        return 0
    return run_points(workdir, points, commands)


def read_points() -> list[Point]:
    """Return the overrides of every point; each is checked against the config.

    Raises:
      ValueError: the config has no sweep(), an empty one, points of different fields, or an
        override that cannot be.
    """
    file, _, variant = flags.recipe_name().partition(":")
    spec = importlib.util.spec_from_file_location("sweep_config", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        raise ValueError(f"--config: {file} has no sweep(); write one that yields overrides.")
    # A config with a sweep for each variant takes the variant's name.
    asked = (variant,) if variant and inspect.signature(module.sweep).parameters else ()
    points = list(module.sweep(*asked))
    if not points:
        raise ValueError(f"--config: sweep() of {file} yields nothing.")
    for number, point in enumerate(points):
        if point.keys() != points[0].keys():
            raise ValueError(
                f"--config: point {number} of sweep() has fields {', '.join(point)}, but the "
                f"first has {', '.join(points[0])}; every point sets the same fields."
            )
        from_mapping(_override(FLAGS.config.to_dict(), point))
    return points


def _override(tree: dict[str, Any], point: Point) -> dict[str, Any]:
    for name, value in point.items():
        *parents, last = name.split(".")
        node = tree
        for part in parents:
            node = node.get(part)
            if not isinstance(node, dict):
                raise ValueError(f"sweep(): {name} is no field; {part} does not hold fields.")
        node[last] = value
    return tree


def build_commands(workdir: Path, number: int, point: Point) -> list[list[str]]:
    """Return the command lines of a point; fields given to the sweep itself go along."""
    given = [a for a in sys.argv[1:] if a.startswith("--config.")]
    swept = [f"--config.{name}={value}" for name, value in point.items()]
    bank = [] if FLAGS.config.data.bank else [f"--config.data.bank={workdir / 'bank'}"]
    recipe = flags.recipe_name()
    place = _place(workdir, number)
    train = [
        sys.executable, "-m", "zeroseg_jax", "train", f"--config={recipe}",
        f"--workdir={place}", *bank, *given, *swept,
    ]  # fmt: skip
    names = _benchmarks()
    if not names:
        return [train]
    # Of several benchmarks each has a folder of its own below --output.
    output = place / "reports" if len(names) > 1 else _report(place, names[0])
    evaluate = [
        sys.executable, "-m", "zeroseg_jax", "evaluate", f"--workdir={place}",
        f"--benchmark={FLAGS.evaluate}", f"--output={output}", *shlex.split(FLAGS.evaluate_with),
    ]  # fmt: skip
    return [train, evaluate]


def _benchmarks() -> list[str]:
    return [name for name in FLAGS.evaluate.split(",") if name]


def _report(place: Path, benchmark: str) -> Path:
    return place / "reports" / benchmark


def run_points(workdir: Path, points: list[Point], commands: list[list[list[str]]]) -> int:
    """Run what is not finished, --jobs at a time; a failed point does not stop the others.

    Returns:
      0, or 1 where a point failed.
    """
    failed = []

    def run(number: int) -> None:
        place = _place(workdir, number)
        reports = [_report(place, name) / "report.json" for name in _benchmarks()]
        finished = [is_finished(place)]
        if reports:
            finished.append(all(path.is_file() for path in reports))
        if all(finished):
            print(f"sweep: point {number} is finished", flush=True)
            return
        place.mkdir(parents=True, exist_ok=True)
        print(f"sweep: point {number} of {len(points)}: {points[number]}", flush=True)
        for command, there in zip(commands[number], finished, strict=True):
            if there:
                continue
            with open(place / "log.txt", "a", encoding="utf-8") as log:
                done = subprocess.run(command, stdout=log, stderr=log, check=False)
            if done.returncode:
                failed.append(number)
                print(f"sweep: point {number} failed; see {place / 'log.txt'}", flush=True)
                return

    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        list(pool.map(run, range(len(points))))
    print(f"sweep: {len(points) - len(failed)} of {len(points)} points finished", flush=True)
    return 1 if failed else 0


def is_finished(place: Path) -> bool:
    """Tell whether a work directory holds the checkpoint of its last step."""
    manifest = place / "manifest.json"
    if not manifest.is_file():
        return False
    steps = json.loads(manifest.read_text())["steps"]
    return (place / "checkpoints" / str(steps)).is_dir()


def _place(workdir: Path, number: int) -> Path:
    return workdir / f"{number:03d}"


def _join(commands: list[list[str]]) -> str:
    return " && ".join(map(shlex.join, commands))


def _print_commands(workdir: Path, commands: list[list[list[str]]]) -> str:
    del workdir
    return "\n".join(map(_join, commands))


def _print_slurm(workdir: Path, commands: list[list[list[str]]]) -> str:
    cases = "\n".join(f"  {i}) {_join(point)} ;;" for i, point in enumerate(commands))
    return (
        f"#!/usr/bin/env bash\n#SBATCH --job-name=sweep\n#SBATCH --array=0-{len(commands) - 1}\n"
        f"#SBATCH --gpus-per-node=1\n#SBATCH --requeue\n#SBATCH --output={workdir}/slurm-%a.log\n"
        f"case $SLURM_ARRAY_TASK_ID in\n{cases}\nesac"
    )


def _print_jobset(workdir: Path, commands: list[list[list[str]]]) -> str:
    """Return a JobSet with one job a point; JSON is YAML, so that nothing needs quoting."""
    del workdir
    image = os.environ.get("IMAGE", "REGISTRY/zeroseg_jax:latest")

    def job(number: int, point: list[list[str]]) -> dict[str, Any]:
        line = _join([["python", *command[1:]] for command in point])
        container = {"name": "train", "image": image, "command": ["sh", "-c", line]}
        pod = {"restartPolicy": "Never", "containers": [container]}
        return {"name": f"p{number}", "template": {"spec": {"template": {"spec": pod}}}}

    jobs = [job(i, command) for i, command in enumerate(commands)]
    return json.dumps(
        {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": "sweep"},
            "spec": {"failurePolicy": {"maxRestarts": 3}, "replicatedJobs": jobs},
        },
        indent=1,
    )


_PRINTERS = {"commands": _print_commands, "slurm": _print_slurm, "jobset": _print_jobset}
