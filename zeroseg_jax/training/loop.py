"""The training loop: one, for every recipe and every number of devices."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.training import sharding
from zeroseg_jax.training.checkpoint import Checkpoints
from zeroseg_jax.training.inputs import Inputs, build_inputs
from zeroseg_jax.training.objective import build_objective
from zeroseg_jax.training.optimizer import build_optimizer, build_schedule, count_steps
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step
from zeroseg_jax.training.writer import MetricsWriter, Stopwatch, open_manifest


def train(
    config: Config,
    workdir: str | Path,
    *,
    teacher: Teacher,
    overrides: dict[str, Any] | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, or go on from the newest checkpoint of the work directory.

    Args:
      config: the whole run.
      workdir: gets manifest.json, metrics.jsonl and checkpoints/.
      teacher: the frozen CLIP: the bank must be its, or it runs inside the loop.
      overrides: of the config, for the manifest.
      log: takes progress lines.

    Returns:
      step, steps, whether the run is finished, and the last logged record.

    Raises:
      ValueError: config, bank, teacher and work directory do not fit together, said before
        anything starts; or a loss that is not finite.
    """
    workdir = Path(workdir)
    mesh = sharding.build_mesh(config)
    inputs = build_inputs(config, workdir, teacher, log)
    steps = count_steps(config, inputs.images)
    workdir.mkdir(parents=True, exist_ok=True)
    open_manifest(
        workdir, config, steps=steps, teacher=inputs.teacher_digest, overrides=overrides or {}
    )
    optimizer = build_optimizer(config, steps)
    objective = build_objective(config, teacher, inputs)

    def born():
        return init_state(config, objective, optimizer)

    everywhere = sharding.replicate(mesh)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        jax.eval_shape(born),
    )
    with Checkpoints(
        workdir / "checkpoints", keep=config.run.keep_checkpoints, log=log
    ) as checkpoints:
        state = checkpoints.restore_latest(like)
        if state is None:
            state = jax.jit(born, out_shardings=everywhere)()
        start = int(state.step)
        if start:
            log(f"train: going on from step {start} of {steps}")
        run = _Run(config, workdir, steps, start, mesh, log)
        step_fn = build_step(config, objective, optimizer, mesh)
        with contextlib.closing(run.metrics), _catch_signal(run):
            state = run.loop(state, step_fn, inputs, checkpoints)
    return {
        "step": int(state.step),
        "steps": steps,
        "finished": int(state.step) == steps,
        "record": run.record,
    }


class _Run:
    """The state of the loop beside the train state."""

    def __init__(self, config: Config, workdir: Path, steps: int, start: int, mesh, log):
        self.config, self.workdir, self.steps, self.start = config, workdir, steps, start
        self.mesh, self.log = mesh, log
        self.metrics = MetricsWriter(workdir, start)
        self.watch = Stopwatch(config.optim.batch_global, steps, start, log)
        self.rate = build_schedule(config, steps)
        self.stop_asked = False
        self.record: dict[str, Any] = {}

    def loop(self, state, step_fn, inputs: Inputs, checkpoints: Checkpoints):
        """Step until done or asked to stop; order matters: log, then save, then next batch."""
        every = self.config.run
        per_host = self.config.optim.batch_global // jax.process_count()
        iterator = inputs.batches(self.start, batch_per_host=per_host)
        for step in range(self.start + 1, self.steps + 1):
            batch, indices = self._next_batch(iterator)
            with jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, batch)
            last = step == self.steps or self.stop_asked
            if step % every.log_every_steps == 0 or step in (1, self.start + 1) or last:
                self._log_step(step, jax.device_get(metrics), indices)
            if step % every.checkpoint_every_steps == 0 or last:
                checkpoints.save(step, state)
            if self.stop_asked:
                self.log(f"train: asked to stop, saved step {step}; run again to go on")
                break
        return state

    def _next_batch(self, iterator):
        begin = time.perf_counter()
        batch = dict(next(iterator))
        self.watch.wait(time.perf_counter() - begin)
        indices = batch.pop("index")
        shards = sharding.split(self.mesh)
        placed = {
            name: jax.make_array_from_process_local_data(shards, np.asarray(value))
            for name, value in batch.items()
        }
        return placed, indices

    def _log_step(self, step: int, metrics: dict[str, np.ndarray], indices: np.ndarray) -> None:
        record = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if bad:
            path = self.workdir / "diagnostic.json"
            content = {"step": step, "metrics": {k: str(v) for k, v in record.items()},
                       "images": np.asarray(indices).tolist()}  # fmt: skip
            part = path.with_suffix(".part")
            part.write_text(json.dumps(content, indent=1) + "\n")
            os.replace(part, path)
            terms = [name for name in bad if name.startswith("loss_")] or bad
            raise ValueError(
                f"training: {terms[0]} is {record[terms[0]]} at step {step}; see {path}; lower "
                "optim.base_rate or set optim.clip_norm."
            )
        record["learning_rate"] = float(self.rate(step - 1))
        record |= self.watch.lap(step)
        self.metrics.write(record)
        self.watch.report(step, record)
        self.record = record


@contextlib.contextmanager
def _catch_signal(run: _Run):
    """Let SIGTERM end the run after the step at hand, with a checkpoint."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number, frame):
        del number, frame
        run.stop_asked = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
