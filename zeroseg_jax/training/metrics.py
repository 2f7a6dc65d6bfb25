"""What a run leaves to read: manifest.json, metrics.jsonl, TensorBoard and progress lines."""

from __future__ import annotations

import importlib.metadata
import importlib.util
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
import numpy as np

from zeroseg_jax.config import Config, rename_old, to_mapping
from zeroseg_jax.data import files
from zeroseg_jax.training.timing import Goodput

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
        "run.pictures_every_steps",
        "run.remat",
        "run.scan_blocks",
        "mesh.data",
        "mesh.fsdp",
        "mesh.tensor",
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


def open_workdir(
    workdir: Path,
    config: Config,
    *,
    state_bytes: int,
    steps: int,
    teacher: str,
    overrides: dict[str, Any],
    allow_change: bool,
    log: Callable[[str], None],
) -> None:
    """Make the work directory with its manifest.json, or check that it is this run's.

    Args:
      workdir: of the run; process 0 writes, the others read.
      config: of the run.
      state_bytes: size of a checkpoint.
      steps: of the run.
      teacher: digest of the CLIP.
      overrides: of the config.
      allow_change: take the work directory of another config over, and say so.
      log: takes the line that says so.

    Raises:
      ValueError: the directory cannot be written, its disk cannot hold a checkpoint, or it
        belongs to another config: names every differing field.
    """
    if workdir.parts and workdir.parts[0].endswith(":"):  # a path holds gs:// as gs:/
        raise ValueError(
            f"--workdir: {workdir} is an address; mount the bucket (gcsfuse) and give the path."
        )
    _check_room(workdir, state_bytes)
    path = workdir / "manifest.json"
    content = {
        "config": to_mapping(config),
        "overrides": overrides,
        "steps": steps,
        "teacher": teacher,
        **describe_machine(),
    }
    if path.is_file():
        differing = _compare_configs(path, content["config"])
        if not differing:
            return
        if not allow_change:
            raise ValueError(
                f"{workdir}: made by another config, which differs in {'; '.join(differing)}; "
                "use another --workdir, or --allow_config_change to go on in this one."
            )
        log(f"train: {workdir} goes on with another config: {'; '.join(differing)}")
    if jax.process_index() == 0:
        files.write_json(path, content, fsync=True)


def _check_room(workdir: Path, state_bytes: int) -> None:
    probe = workdir / f".write-{os.getpid()}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--workdir: {workdir} cannot be written ({error.strerror}); name another directory."
        ) from error
    free = shutil.disk_usage(workdir).free
    if state_bytes > free:
        raise ValueError(
            f"--workdir: a checkpoint needs {state_bytes / 1e6:.1f} MB, and {free / 1e6:.1f} MB "
            f"are free at {workdir}; make room or name another directory."
        )


def _compare_configs(manifest: Path, config: dict[str, Any]) -> list[str]:
    """List the fields that differ from a manifest's and that touch the numbers."""
    # A field that the manifest lacks was at its default.
    before = _flatten(
        rename_old(files.read_json(manifest, remedy="use another --workdir")["config"])
    )
    before = _flatten(json.loads(json.dumps(to_mapping(Config())))) | before
    # Through JSON, so that tuples compare as lists.
    now = _flatten(json.loads(json.dumps(config)))
    return [
        f"{name} ({before.get(name)!r} there, {now.get(name)!r} now)"
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name) and name not in FREE_FIELDS
    ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class Sinks:
    """Where records and pictures go; only process 0 writes.

    WORKDIR/metrics.jsonl always: one object a logged step; lines past the restored step are
    dropped. TensorBoard in WORKDIR/tensorboard where tensorboardX is installed. Weights & Biases
    where a project is named.
    """

    def __init__(self, workdir: Path, start_step: int, config: Config, wandb_project: str = ""):
        self._file = self._board = self._wandb = None
        if jax.process_index() != 0:
            return
        path = workdir / "metrics.jsonl"
        if path.is_file():
            kept = [line for line in path.read_text().splitlines() if _is_kept(line, start_step)]
            files.write_text(path, "".join(line + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            # What was logged past the restored step is overruled by what comes now.
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)
        if wandb_project:
            self._wandb = _open_wandb(wandb_project, workdir, config)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record to each sink and flush."""
        if self._file:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        scalars = {name: value for name, value in record.items() if name != "step"}
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, record["step"])
        if self._wandb:
            self._wandb.log(scalars, step=record["step"])

    def show(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """Add pictures uint8 (H, W, 3) to TensorBoard."""
        if self._board:
            for name, picture in pictures.items():
                self._board.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Close every sink."""
        for sink in (self._file, self._board):
            if sink:
                sink.close()
        if self._wandb:
            self._wandb.finish()


def _open_wandb(project: str, workdir: Path, config: Config) -> Any:
    if not importlib.util.find_spec("wandb"):
        raise ValueError("--wandb_project: wandb is not installed; pip install wandb, or leave it.")
    import wandb

    # One run for all restarts of a work directory.
    name = str(workdir.absolute()).strip("/").replace("/", "-")[-64:]
    return wandb.init(project=project, id=name, resume="allow", config=to_mapping(config))


def _is_kept(line: str, start_step: int) -> bool:
    try:
        return json.loads(line)["step"] <= start_step
    except json.JSONDecodeError:
        return False  # the torn last line of a killed run


class Stopwatch:
    """Rates since the last log line, and time left."""

    def __init__(self, batch: int, steps: int, start_step: int, clock: Goodput):
        self._batch, self._steps, self._clock = batch, steps, clock
        self._step, self._time = start_step, time.perf_counter()
        self._waited = clock.seconds("input")
        self._eta = 0.0

    def lap(self, step: int) -> dict[str, float]:
        """Return images/s and the share of time spent waiting for data, since the last lap."""
        now, waited = time.perf_counter(), self._clock.seconds("input")
        seconds, steps = max(now - self._time, 1e-9), step - self._step
        rates = {
            "images_per_second": round(steps * self._batch / seconds, 2),
            "data_wait_share": round((waited - self._waited) / seconds, 4),
        }
        self._eta = seconds / max(steps, 1) * (self._steps - step)
        self._step, self._time, self._waited = step, now, waited
        return rates

    def describe(self, step: int, record: dict[str, Any]) -> str:
        """Return one progress line."""
        terms = " ".join(
            f"{name.removeprefix('loss_')} {value:.3f}"
            for name, value in record.items()
            if name.startswith("loss")
        )
        counts = "".join(
            f" {words} {record[name]:.1f}" for name, words in _COUNTS.items() if name in record
        )
        return (
            f"train: step {step}/{self._steps} {terms}{counts} "
            f"{record['images_per_second']:.0f} images/s, data wait "
            f"{100 * record['data_wait_share']:.0f} %, ETA {self._eta:.0f} s"
        )
