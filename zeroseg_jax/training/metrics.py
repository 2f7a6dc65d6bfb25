"""Metrics of a run: metrics.jsonl, TensorBoard and Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from zeroseg_jax.config import Config, to_mapping
from zeroseg_jax.data import files, mirrors
from zeroseg_jax.training.workdir import METRICS


class Sinks:
    """Writers of metrics and images; only process 0 writes.

    WORKDIR/metrics.jsonl has one object per logged step; lines after the restored step are
    removed. TensorBoard events in WORKDIR/tensorboard need tensorboardX. In a mirror both are
    uploaded at each checkpoint. Weights & Biases needs a project.

    Args:
      workdir: work directory.
      start_step: restored step.
      config: settings of the run, for Weights & Biases.
      wandb_project: project of Weights & Biases; empty for none.
    """

    def __init__(self, workdir: Path, start_step: int, config: Config, wandb_project: str = ""):
        self._file: TextIO | None = None
        self._board: Any = None
        self._wandb: Any = None
        self._workdir = workdir
        if jax.process_index() != 0:
            return
        path = workdir / METRICS
        if path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _is_kept(line, start_step)]
            files.write_text(path, "".join(line + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 closed by close()
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            # Purge events after the restored step; they are logged again.
            self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)
        if wandb_project:
            self._wandb = _open_wandb(wandb_project, workdir, config)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record to every writer and flush."""
        if self._file:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        scalars = {name: value for name, value in record.items() if name != "step"}
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, record["step"])
        if self._wandb:
            self._wandb.log(scalars, step=record["step"])

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Add images uint8 (H, W, 3) to TensorBoard."""
        if self._board:
            for name, image in images.items():
                self._board.add_image(name, image, step, dataformats="HWC")

    def upload(self) -> None:
        """Upload the log and TensorBoard's events, if the work directory is a mirror."""
        if self._file:
            mirrors.push(self._workdir / METRICS, self._workdir / METRICS)
            mirrors.push_tree(self._workdir / "tensorboard")

    def close(self) -> None:
        """Close every writer."""
        for sink in (self._file, self._board):
            if sink:
                sink.close()
        self.upload()
        if self._wandb:
            self._wandb.finish()


def _open_wandb(project: str, workdir: Path, config: Config) -> Any:
    if not importlib.util.find_spec("wandb"):
        raise ValueError(
            "--wandb_project: wandb is not installed; install it with pip or omit the flag."
        )
    import wandb

    # All restarts of a work directory are one run.
    name = str(workdir.absolute()).strip("/").replace("/", "-")[-64:]
    return wandb.init(project=project, id=name, resume="allow", config=to_mapping(config))


def _is_kept(line: str, start_step: int) -> bool:
    try:
        return json.loads(line)["step"] <= start_step
    except (ValueError, TypeError, KeyError, RecursionError):
        return False  # the incomplete last line of a killed run, or a damaged one
