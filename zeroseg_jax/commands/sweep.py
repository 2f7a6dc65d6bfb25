"""`zeroseg sweep --config=RECIPE --workdir=DIR`: train and score every point of a recipe's sweep().

Point NNN trains in WORKDIR/NNN from the bank WORKDIR/bank, unless data.bank is set. With
--evaluate=BENCHMARKS each point is scored into WORKDIR/NNN/reports/BENCHMARK. Points that are
trained and scored are skipped. --print prints one shell line per point, for a job array;
--collect makes tables and plots.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import inspect
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.commands.recipes import find_recipe

Point = dict[str, Any]


def define_flags() -> None:
    """Define the flags of `sweep`."""
    flags.define_config()
    absl_flags.DEFINE_string("evaluate", "", "benchmarks to score each point on, with commas")
    absl_flags.DEFINE_string("evaluate_with", "", "further flags of evaluate, as one string")
    absl_flags.DEFINE_integer("jobs", 1, "number of points that run at a time", lower_bound=1)
    absl_flags.DEFINE_bool("print", False, "print one shell line per point, run nothing")
    absl_flags.DEFINE_bool("collect", False, "make tables and plots of the finished points")
    absl_flags.DEFINE_string("metric", "loss", "metric of --collect's table and plot")
    absl_flags.DEFINE_string("against", "", "swept field of the plot's x axis; empty: the first")


def main(arguments: list[str]) -> int:
    """Run, print or collect the points of the recipe's sweep; 1 if a point failed."""
    del arguments
    points = read_points()
    workdir = Path(FLAGS.workdir)
    if FLAGS.collect:
        from zeroseg_jax.evaluation.sweep_tables import collect

        print(collect(workdir, points, metric=FLAGS.metric, against=FLAGS.against))
        return 0
    commands = [build_commands(workdir, number, point) for number, point in enumerate(points)]
    if FLAGS.print:
        print("\n".join(" && ".join(map(shlex.join, lines)) for lines in commands))
        return 0
    return run_points(workdir, points, commands)


def read_points() -> list[Point]:
    """Read the overrides of every point and check them against the config.

    Raises:
      ValueError: the recipe has no sweep() or an empty one, its points set different fields, or an
        override is invalid.
    """
    from zeroseg_jax.config import from_mapping

    file, _, variant = find_recipe(flags.recipe_name()).partition(":")
    spec = importlib.util.spec_from_file_location("sweep_config", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config: {file} is not a Python file; give a recipe.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        raise ValueError(f"--config: {file} has no sweep(); add one that yields overrides.")
    # A sweep() with a parameter differs by variant of the recipe.
    takes_variant = variant and inspect.signature(module.sweep).parameters
    points = list(module.sweep(variant) if takes_variant else module.sweep())
    if not points:
        raise ValueError(f"--config: sweep() of {file} yields nothing; yield one dict per point.")
    for number, point in enumerate(points):
        if point.keys() != points[0].keys():
            raise ValueError(
                f"--config: point {number} of sweep() has fields {', '.join(point)}, but the "
                f"first has {', '.join(points[0])}; set the same fields in every point."
            )
        from_mapping(_override(FLAGS.config.to_dict(), point))
    return points


def _override(tree: dict[str, Any], point: Point) -> dict[str, Any]:
    for name, value in point.items():
        *parents, last = name.split(".")
        node: Any = tree
        for part in parents:
            node = node.get(part)
            if not isinstance(node, dict):
                raise ValueError(f"sweep(): {name} is not a field; {part} has no fields.")
        node[last] = value
    return tree


def build_commands(workdir: Path, number: int, point: Point) -> list[list[str]]:
    """Return the command lines of a point: train, and evaluate if --evaluate is given.

    Args:
      workdir: directory of the sweep.
      number: index of the point.
      point: overrides; --config.FIELD flags of this command are passed on too.
    """
    given = [a for a in sys.argv[1:] if a.startswith("--config.")]
    swept = [f"--config.{name}={value}" for name, value in point.items()]
    bank = [] if FLAGS.config.data.bank else [f"--config.data.bank={workdir / 'bank'}"]
    recipe = flags.recipe_name()
    directory = _directory(workdir, number)
    program = [sys.executable, "-m", "zeroseg_jax"]
    train = [*program, "train", f"--config={recipe}", f"--workdir={directory}", *bank, *given]
    benchmarks = _benchmarks()
    if not benchmarks:
        return [[*train, *swept]]
    # evaluate gives each of several benchmarks a folder below --output.
    output = directory / "reports" if len(benchmarks) > 1 else directory / "reports" / benchmarks[0]
    evaluate = [
        *program, "evaluate", f"--workdir={directory}", f"--benchmark={FLAGS.evaluate}",
        f"--output={output}", *shlex.split(FLAGS.evaluate_with),
    ]  # fmt: skip
    return [[*train, *swept], evaluate]


def run_points(workdir: Path, points: list[Point], commands: list[list[list[str]]]) -> int:
    """Run the unfinished points, --jobs at a time; a failed point does not stop the others.

    Returns:
      0, or 1 if a point failed.
    """
    failed = []

    def run(number: int) -> None:
        directory = _directory(workdir, number)
        finished = [_is_trained(directory)]
        if benchmarks := _benchmarks():
            reports = (directory / "reports" / name / "report.json" for name in benchmarks)
            finished.append(all(path.is_file() for path in reports))
        if all(finished):
            print(f"sweep: point {number} is finished", flush=True)
            return
        directory.mkdir(parents=True, exist_ok=True)
        print(f"sweep: point {number} of {len(points)}: {points[number]}", flush=True)
        for command, is_done in zip(commands[number], finished, strict=True):
            if is_done:
                continue
            with open(directory / "log.txt", "a", encoding="utf-8") as log:
                process = subprocess.run(command, stdout=log, stderr=log, check=False)
            if process.returncode:
                failed.append(number)
                print(f"sweep: point {number} failed; see {directory / 'log.txt'}", flush=True)
                return

    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        list(pool.map(run, range(len(points))))
    print(f"sweep: {len(points) - len(failed)} of {len(points)} points finished", flush=True)
    return 1 if failed else 0


def _is_trained(directory: Path) -> bool:
    from zeroseg_jax.data.files import read_json

    manifest = directory / "manifest.json"
    if not manifest.is_file():
        return False
    steps = read_json(manifest, remedy=f"delete {directory}")["steps"]
    return (directory / "checkpoints" / str(steps)).is_dir()


def _directory(workdir: Path, number: int) -> Path:
    return workdir / f"{number:03d}"


def _benchmarks() -> list[str]:
    return [name for name in FLAGS.evaluate.split(",") if name]
