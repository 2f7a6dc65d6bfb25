"""Detection of the first non-finite loss or gradient without a device sync at every step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from zeroseg_jax.data import files


class NotFiniteError(ValueError):
    """A non-finite loss or gradient; the message names the first bad value and its step."""


class FiniteCheck:
    """Metrics of the steps since the last check, which stay on the devices until the next one.

    The metric `finite` of a step is 1 if all its numbers are finite. The loop calls `check` before
    it logs or saves, so that no checkpoint holds a non-finite state.

    Args:
      workdir: folder of the diagnostic files.
    """

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._steps: list[tuple[int, dict[str, jax.Array], np.ndarray]] = []

    def add(self, step: int, metrics: dict[str, jax.Array], indices: np.ndarray) -> None:
        """Store the metrics of a step and this host's image indices of its batch."""
        self._steps.append((step, metrics, indices))

    def check(self) -> dict[str, float]:
        """Check all stored steps; return the metrics of the last one, without `finite`.

        Raises:
          NotFiniteError: a step is not finite. WORKDIR/diagnostic-STEP.json has its metrics and
            image indices, one file per host.
        """
        flags = jax.device_get([metrics["finite"] for _, metrics, _ in self._steps])
        for (step, metrics, indices), finite in zip(self._steps, flags, strict=True):
            if not finite:
                self._stop(step, _to_floats(metrics), indices)
        _, metrics, _ = self._steps[-1]
        self._steps = []
        return _to_floats(metrics)

    def _stop(self, step: int, metrics: dict[str, float], indices: np.ndarray) -> NoReturn:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        # Terms come before their sum and parts before the whole, so that the cause is named.
        kinds = ("loss_", "loss", "grad_norm_", "")
        ranks = {name: [name.startswith(kind) for kind in kinds].index(True) for name in bad}
        first = min(bad, key=ranks.__getitem__)
        host = jax.process_index()
        suffix = f"-host{host}" if jax.process_count() > 1 else ""
        path = self._workdir / f"diagnostic-{step}{suffix}.json"
        content = {
            "step": step,
            "first_bad": first,
            "bad": bad,
            "metrics": {name: str(value) for name, value in metrics.items()},
            "images": np.asarray(indices).tolist(),
        }
        files.write_json(path, content)
        raise NotFiniteError(
            f"training: {first} is {metrics[first]} at step {step}; see {path}; lower "
            "optim.base_rate or set optim.clip_norm."
        )


def _to_floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    host = jax.device_get(metrics)
    return {name: float(value) for name, value in host.items() if name != "finite"}
