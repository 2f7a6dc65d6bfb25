"""Timing of several calls in alternating rounds, so that other load falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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
