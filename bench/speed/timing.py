"""Timing of calls in alternating rounds, so that other load falls on all alike; of processes."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rounds = list[dict[str, dict[str, float]]]


def time_in_turns(sides: dict[str, Callable[[], Any]], rounds: int) -> Rounds:
    """Time every side once a round, after one call of each for compilation and warm-up.

    Args:
      sides: calls by name; a call returns when its work is done.
      rounds: number of rounds; the order of the sides alternates.

    Returns:
      For each round and side, `wall` and `cpu` seconds (of this process, all threads).
    """
    for run in sides.values():
        run()
    rows = []
    for i in range(rounds):
        row = {}
        for side in list(sides)[:: 1 if i % 2 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            sides[side]()
            row[side] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        rows.append(row)
    return rows


def median_seconds(rounds: Rounds, side: str, clock: str = "wall") -> float:
    """Return the median of a side over the rounds."""
    return statistics.median(row[side][clock] for row in rounds)


def ratios(rounds: Rounds, above: str, below: str, clock: str = "wall") -> list[float]:
    """Return the ratio of two sides in each round; both saw the same load."""
    return [row[above][clock] / row[below][clock] for row in rounds]


def least_seconds(run: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the least wall and CPU seconds of a call over several repeats."""
    rounds = time_in_turns({"run": run}, repeats)
    return min(row["run"]["wall"] for row in rounds), min(row["run"]["cpu"] for row in rounds)


def time_process(
    command: list[str], cache: Path, folder: Path | None = None
) -> tuple[float, float]:
    """Run a command; return wall and CPU seconds of the process from its start to its end.

    Args:
      command: program and arguments.
      cache: folder of everything that the project keeps between commands, compiled programs too.
      folder: working directory, whose modules are imported; None: that of this process.

    Raises:
      RuntimeError: the command fails; names it and has the end of its errors.
    """
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    if folder is not None:
        env["PYTHONPATH"] = str(folder)
    begin, used = time.perf_counter(), _child_seconds()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin, _child_seconds() - used
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return took


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
