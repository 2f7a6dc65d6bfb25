"""Seconds from start to end of `zeroseg --help` and `zeroseg VERB --help`, Python included.

python -m bench.speed.help
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.commands.main import VERBS
from zeroseg_jax.data.files import write_json
from zeroseg_jax.training.workdir import describe_machine


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_integer("repeats", 10, "number of timed starts per command", lower_bound=1)
    absl_flags.DEFINE_string("output", "docs/results/help_speed.json", "file of the raw seconds")


def main(arguments: list[str]) -> None:
    """Time every help text in alternating rounds; print the median and write all seconds."""
    del arguments
    commands = ["", *VERBS]
    wall: dict[str, list[float]] = {verb: [] for verb in commands}
    cpu: dict[str, list[float]] = {verb: [] for verb in commands}
    for _ in range(FLAGS.repeats):
        for verb in commands:
            command = [sys.executable, "-m", "zeroseg_jax", *filter(None, [verb]), "--help"]
            begin, used = time.perf_counter(), _child_seconds()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            wall[verb].append(round(time.perf_counter() - begin, 4))
            cpu[verb].append(round(_child_seconds() - used, 4))
    for verb in commands:
        name = f"zeroseg {verb}".strip()
        print(
            f"{name:24s} median {statistics.median(wall[verb]):.3f} s, least {min(wall[verb]):.3f}"
            f" s; CPU median {statistics.median(cpu[verb]):.3f} s"
        )
    write_json(FLAGS.output, {"wall": wall, "cpu": cpu, **describe_machine()})


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    flags.run(main, define_flags)
