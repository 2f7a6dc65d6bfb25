"""`zeroseg sweep --config=RECIPE --workdir=DIR`: train and score every point of a recipe's sweep().

Point NNN trains in WORKDIR/NNN from the bank WORKDIR/bank, unless data.bank is set. With
--evaluate=BENCHMARKS each point is scored into WORKDIR/NNN/reports/BENCHMARK. A point is skipped
if it is trained to its last step and scored at that step with these flags. A point of other
settings is moved to WORKDIR/NNN.before1 and trained again. --print prints one shell line per point,
for a job array; --collect makes tables and plots.
"""

from __future__ import annotations

import concurrent.futures
import functools
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.commands.recipes import load_sweep, override
from zeroseg_jax.data.mirrors import local_path

if TYPE_CHECKING:
    from zeroseg_jax.config import Config

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
    workdir = local_path(FLAGS.workdir, "--workdir")
    if FLAGS.collect:
        from zeroseg_jax.evaluation.sweep_points import list_differences
        from zeroseg_jax.evaluation.sweep_tables import collect

        done = {
            number: point
            for number, point in enumerate(points)
            if not list_differences(_directory(workdir, number), _read_config(point))
        }
        if left := len(points) - len(done):
            print(f"sweep: {left} points have other settings; sweep again", file=sys.stderr)
        print(collect(workdir, done, metric=FLAGS.metric, against=FLAGS.against))
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
    points = load_sweep(flags.recipe_name())
    for number, point in enumerate(points):
        if point.keys() != points[0].keys():
            raise ValueError(
                f"--config: point {number} of sweep() has fields {', '.join(point)}, but the "
                f"first has {', '.join(points[0])}; set the same fields in every point."
            )
        _read_config(point)
    return points


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
    from zeroseg_jax.evaluation import sweep_points as state

    evaluation = {"evaluate": FLAGS.evaluate, "evaluate_with": FLAGS.evaluate_with}
    failed = []
    running: set[subprocess.Popen] = set()

    def run(number: int) -> None:
        directory = _directory(workdir, number)
        if state.list_differences(directory, _read_config(points[number])):
            old = state.move_away(directory)
            print(f"sweep: point {number} has other settings; its old run is {old}", flush=True)
        finished = [
            state.is_trained(directory),
            state.is_scored(directory, _benchmarks(), evaluation),
        ]
        if all(finished):
            print(f"sweep: point {number} is finished", flush=True)
            return
        directory.mkdir(parents=True, exist_ok=True)
        print(f"sweep: point {number} of {len(points)}: {points[number]}", flush=True)
        for command, is_done in zip(commands[number], finished, strict=False):
            if is_done:
                continue
            with open(directory / "log.txt", "a", encoding="utf-8") as log:
                process = subprocess.Popen(command, stdout=log, stderr=log)
            running.add(process)
            code = process.wait()
            running.discard(process)
            if code or not state.is_trained(directory):
                failed.append(number)
                stopped = "was stopped" if code in (130, 143) else "failed"
                print(f"sweep: point {number} {stopped}; see {directory / 'log.txt'}", flush=True)
                return
        if FLAGS.evaluate:
            state.record_evaluation(directory, evaluation)

    with concurrent.futures.ThreadPoolExecutor(FLAGS.jobs) as pool:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(
                number, functools.partial(state.stop_all, running, signal.getsignal(number))
            )
        list(pool.map(run, range(len(points))))
    print(f"sweep: {len(points) - len(failed)} of {len(points)} points finished", flush=True)
    return 1 if failed else 0


def _read_config(point: Point) -> Config:
    from zeroseg_jax.config import from_mapping

    return from_mapping(override(FLAGS.config.to_dict(), point))


def _directory(workdir: Path, number: int) -> Path:
    return workdir / f"{number:03d}"


def _benchmarks() -> list[str]:
    return [name for name in FLAGS.evaluate.split(",") if name]
