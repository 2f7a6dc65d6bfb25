"""Wall time of a run by kind over all its restarts (Goodput), step rates and progress lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

# `step` is the time in which the loop dispatches a step or waits for the devices.
KINDS = ("startup", "compile", "input", "step", "checkpoint", "evaluation")
# Labels and formats of diagnostics in the progress line, by the names of their metrics.
_DIAGNOSTICS = {
    "distinct_matches": ("matches", ".1f"),
    "segments_used": ("segments", ".1f"),
    "segment_cosine": ("cosine", ".3f"),
    "latent_regions": ("latent regions", ".1f"),
}


class Goodput:
    """Seconds of the loop's thread by kind; the rest is `other`."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._before = 0.0
        self._begin = time.perf_counter()

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Add the time inside the context to `kind`, one of KINDS."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[kind] += time.perf_counter() - begin

    def seconds(self, kind: str) -> float:
        """Return the seconds of a kind, including those before restarts."""
        return self._seconds[kind]

    @property
    def total(self) -> float:
        """Return the wall seconds of the run, including those before restarts."""
        return self._before + time.perf_counter() - self._begin

    def shares(self) -> dict[str, float]:
        """Return the share of each kind in the wall time, and of `other`; they sum to 1."""
        total = max(self.total, 1e-9)
        shares = {kind: round(value / total, 4) for kind, value in self._seconds.items()}
        return {**shares, "other": round(1 - sum(shares.values()), 4)}

    def export(self) -> np.ndarray:
        """Return seconds by kind and their total, float64, for a checkpoint."""
        return np.array([*self._seconds.values(), self.total])

    def restore(self, kept: np.ndarray) -> None:
        """Add the result of an earlier `export` to the seconds of this process."""
        for kind, value in zip(KINDS, kept, strict=False):
            self._seconds[kind] += float(value)
        self._before = float(kept[-1])


def count_values() -> int:
    """Return the length of the array that Goodput.export returns."""
    return len(KINDS) + 1


class Stopwatch:
    """Rates since the last log line, and time left.

    Args:
      batch: images per step.
      steps: number of steps of the run.
      start_step: restored step.
      clock: clock of the run.
    """

    def __init__(self, batch: int, steps: int, start_step: int, clock: Goodput):
        self._batch, self._steps, self._clock = batch, steps, clock
        self._step, self._time = start_step, time.perf_counter()
        self._waited = clock.seconds("input")
        self._eta = 0.0

    def restart(self) -> None:
        """Begin the lap again: the rates and the time left do not count the compilation."""
        self._time, self._waited = time.perf_counter(), self._clock.seconds("input")

    def lap(self, step: int) -> dict[str, float]:
        """Return images/s and the share of time spent waiting for data since the last lap."""
        now, waited = time.perf_counter(), self._clock.seconds("input")
        seconds, steps = max(now - self._time, 1e-9), step - self._step
        rates = {
            "images_per_second": round(steps * self._batch / seconds, 2),
            "data_wait_share": round((waited - self._waited) / seconds, 4),
        }
        self._eta = seconds / max(steps, 1) * (self._steps - step)
        self._step, self._time, self._waited = step, now, waited
        return rates

    def render_line(self, step: int, record: dict[str, Any]) -> str:
        """Return the progress line of a step."""
        terms = " ".join(
            f"{name.removeprefix('loss_')} {value:.3f}"
            for name, value in record.items()
            if name.startswith("loss")
        )
        counts = "".join(
            f" {label} {record[name]:{form}}"
            for name, (label, form) in _DIAGNOSTICS.items()
            if name in record
        )
        used = f", {record['device_gb']:.1f} GB a device" if "device_gb" in record else ""
        return (
            f"train: step {step}/{self._steps} {terms}{counts} "
            f"{record['images_per_second']:.0f} images/s, data wait "
            f"{100 * record['data_wait_share']:.0f} %{used}, ETA {self._eta:.0f} s"
        )
