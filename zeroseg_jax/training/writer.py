"""What a run leaves to read: manifest.json, metrics.jsonl and progress lines."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from zeroseg_jax.config import Config, to_mapping

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# Counts in the progress line, by the names of their metrics.
_COUNTS = {
    "distinct_matches": "matches",
    "segments_used": "segments",
    "latent_regions": "latent regions",
}
# What may change when a run goes on: it does not touch the numbers.
FREE_FIELDS = frozenset(
    {
        "run.log_every_steps",
        "run.checkpoint_every_steps",
        "run.keep_checkpoints",
        "run.data_parallel",
        "data.bank",
        "data.workers",
        "data.prefetch_batches",
    }
)


def describe_machine() -> dict[str, Any]:
    """Name the software and hardware that made a result."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    commit = ""
    if git := shutil.which("git"):
        commit = subprocess.run(
            [git, "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return {
        "python": platform.python_version(),
        "packages": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "devices": sorted({device.device_kind for device in jax.devices()}),
        "device_count": jax.device_count(),
        "commit": commit or None,
    }


def open_manifest(
    workdir: Path, config: Config, *, steps: int, teacher: str, overrides: dict[str, Any]
) -> None:
    """Write manifest.json, or check the run's config against the one written before.

    Raises:
      ValueError: the work directory belongs to another config; names every differing field.
    """
    path = workdir / "manifest.json"
    content = {
        "config": to_mapping(config),
        "overrides": overrides,
        "steps": steps,
        "teacher": teacher,
        **describe_machine(),
    }
    if path.is_file():
        before = _flatten(json.loads(path.read_text())["config"])
        # Through JSON, so that tuples compare as lists.
        now = _flatten(json.loads(json.dumps(content["config"])))
        differing = [
            f"{name} ({before.get(name)!r} there, {now.get(name)!r} now)"
            for name in sorted(set(before) | set(now))
            if before.get(name) != now.get(name) and name not in FREE_FIELDS
        ]
        if differing:
            raise ValueError(
                f"{workdir}: made by another config, which differs in {'; '.join(differing)}; "
                "use another --workdir."
            )
        return
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class MetricsWriter:
    """metrics.jsonl: one object a logged step; lines past the restored step are dropped."""

    def __init__(self, workdir: Path, start_step: int):
        self._path = workdir / "metrics.jsonl"
        if self._path.is_file():
            kept = [
                line for line in self._path.read_text().splitlines() if _is_kept(line, start_step)
            ]
            part = self._path.with_suffix(".part")
            part.write_text("".join(line + "\n" for line in kept))
            os.replace(part, self._path)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and flush it."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_kept(line: str, start_step: int) -> bool:
    try:
        return json.loads(line)["step"] <= start_step
    except json.JSONDecodeError:
        return False  # the torn last line of a killed run


class Stopwatch:
    """Rates since the last log line, and time left."""

    def __init__(self, batch: int, steps: int, start_step: int, log: Callable[[str], None]):
        self._batch, self._steps, self._log = batch, steps, log
        self._step, self._time, self._waited = start_step, time.perf_counter(), 0.0
        self._eta = 0.0

    def wait(self, seconds: float) -> None:
        """Count time spent waiting for data."""
        self._waited += seconds

    def lap(self, step: int) -> dict[str, float]:
        """Return images/s and the share of time spent waiting, since the last lap."""
        now = time.perf_counter()
        seconds, steps = max(now - self._time, 1e-9), step - self._step
        rates = {
            "images_per_second": round(steps * self._batch / seconds, 2),
            "data_wait_share": round(self._waited / seconds, 4),
        }
        self._eta = seconds / max(steps, 1) * (self._steps - step)
        self._step, self._time, self._waited = step, now, 0.0
        return rates

    def report(self, step: int, record: dict[str, Any]) -> None:
        """Print one progress line."""
        terms = " ".join(
            f"{name.removeprefix('loss_')} {record[name]:.3f}"
            for name in record
            if name.startswith("loss")
        )
        counts = " ".join(
            f"{short} {record[name]:.1f}" for name, short in _COUNTS.items() if name in record
        )
        self._log(
            f"train: step {step}/{self._steps} {terms} "
            f"{counts} "
            f"{record['images_per_second']:.0f} images/s, data wait "
            f"{100 * record['data_wait_share']:.0f} %, ETA {self._eta:.0f} s"
        )
