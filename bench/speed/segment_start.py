"""Seconds from the start of `zeroseg segment` to its end, for the student that ships.

python -m bench.speed.segment_start

"cold": an empty cache, so that every program is traced and compiled and every class name embedded.
"warm": the same command again, with the cache that the cold one left. Cold and warm alternate.
CPU seconds (user and system) depend less on other work of the machine than seconds do.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import time_process
from zeroseg_jax.commands import flags

_IMAGE, _WORDS = "docs/images/scene.png", "moon, cross, sky, grass"


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("repeats", 5, "number of timed pairs of processes", 1)
    record.define_output("segment_start")


def main(arguments: list[str]) -> None:
    """Time the processes in pairs; print the least and write all seconds."""
    del arguments
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    cpu: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "zeroseg_jax", "segment", _IMAGE, "--model=playground",
                   f"--words={_WORDS}", f"--output={scratch}/out"]  # fmt: skip
        # The first process reads the packages from disk; it is not counted.
        time_process(command, Path(scratch) / "first")
        for i in range(FLAGS.repeats):
            for name in seconds:
                took, used = time_process(command, Path(scratch) / f"cache-{i}")
                seconds[name].append(round(took, 2))
                cpu[name].append(round(used, 2))
                print(f"{name} {seconds[name][-1]:.2f} s, CPU {cpu[name][-1]:.2f} s", flush=True)
    least = {name: min(values) for name, values in seconds.items()}
    print(f"least: {least}")
    record.write({"seconds": seconds, "cpu_seconds": cpu, "least": least})


if __name__ == "__main__":
    flags.run(main, define_flags)
