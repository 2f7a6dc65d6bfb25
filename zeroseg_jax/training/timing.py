"""Where the wall time of a run goes, over all its restarts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np

# `step` is time in which the loop waits for the devices or feeds them a step.
KINDS = ("startup", "compile", "input", "step", "checkpoint", "evaluation")


class Goodput:
    """Seconds of the loop's thread by kind; what no kind claims is `other`."""

    def __init__(self):
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._before = 0.0
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Count the time inside the context as `kind`, one of KINDS."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[kind] += time.perf_counter() - begin

    def seconds(self, kind: str) -> float:
        """Return the seconds of a kind, those before the restarts included."""
        return self._seconds[kind]

    @property
    def total(self) -> float:
        """Return the wall seconds of the run, those before the restarts included."""
        return self._before + time.perf_counter() - self._begin

    def shares(self) -> dict[str, float]:
        """Return each kind's share of the wall time, and `other`; they sum to 1."""
        total = max(self.total, 1e-9)
        shares = {kind: round(value / total, 4) for kind, value in self._seconds.items()}
        return {**shares, "other": round(1 - sum(shares.values()), 4)}

    def export(self) -> np.ndarray:
        """Return what a checkpoint keeps: float64, seconds by kind and their total."""
        return np.array([*self._seconds.values(), self.total])

    def restore(self, kept: np.ndarray) -> None:
        """Add what `export` gave to what was counted since the start of this process."""
        for kind, value in zip(KINDS, kept, strict=False):
            self._seconds[kind] += float(value)
        self._before = float(kept[-1])


def size() -> int:
    """Return the length of what `export` gives."""
    return len(KINDS) + 1
