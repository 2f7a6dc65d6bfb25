"""Noticing the first step whose loss or gradients are not finite, without waiting at each."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import numpy as np

from zeroseg_jax.data import files


class NotFiniteError(ValueError):
    """A loss or gradient that is not finite; the message names the first and the step."""


class Recent:
    """The metrics of the steps since the last look, on the devices until then.

    A step tells in `finite` whether all its numbers are. `settle` is called before anything
    is logged or saved, so that no checkpoint is ever made of such a state.
    """

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._steps: list[tuple[int, dict[str, jax.Array], np.ndarray]] = []

    def add(self, step: int, metrics: dict[str, jax.Array], indices: np.ndarray) -> None:
        """Keep the metrics of a step and this host's indices of its images."""
        self._steps.append((step, metrics, indices))

    def settle(self) -> dict[str, float]:
        """Look at all steps kept; return the last one's metrics, without `finite`.

        Raises:
          NotFiniteError: the first bad step; its numbers and images are in
            WORKDIR/diagnostic-STEP.json, one file a host.
        """
        flags = jax.device_get([metrics["finite"] for _, metrics, _ in self._steps])
        for (step, metrics, indices), finite in zip(self._steps, flags, strict=True):
            if not finite:
                self._stop(step, _to_floats(metrics), indices)
        _, metrics, _ = self._steps[-1]
        self._steps = []
        return _to_floats(metrics)

    def _stop(self, step: int, metrics: dict[str, float], indices: np.ndarray) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        # Terms before their sum, parts before the whole: the cause before what follows from it.
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
