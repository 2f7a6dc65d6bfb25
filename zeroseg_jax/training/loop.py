"""The training loop: one, for every objective, every recipe and every number of devices."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.training import metrics as writer
from zeroseg_jax.training import sharding
from zeroseg_jax.training.checkpoint import Checkpoints
from zeroseg_jax.training.finite_check import Recent
from zeroseg_jax.training.inputs import Inputs, build_inputs
from zeroseg_jax.training.objective import Objective, build_objective
from zeroseg_jax.training.optimizer import build_optimizer, build_schedule, count_steps
from zeroseg_jax.training.previews import build_painter
from zeroseg_jax.training.state import TrainState, init_state
from zeroseg_jax.training.step import build_step
from zeroseg_jax.training.timing import Goodput

# Steps in flight: more would only fill the devices with batches that wait.
_AHEAD = 2
Painter = Callable[[Any], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is watched; nothing here touches its numbers.

    Attributes:
      log: takes progress lines.
      overrides: of the config, for the manifest.
      allow_config_change: go on in a work directory of another config.
      wandb_project: also send scalars there; empty: no.
      profile_steps: trace so many steps, after the first few, into WORKDIR/profile.
    """

    log: Callable[[str], None] = print
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    allow_config_change: bool = False
    wandb_project: str = ""
    profile_steps: int = 0


def train(
    config: Config, workdir: str | Path, *, teacher: Teacher, options: Options | None = None
) -> dict[str, Any]:
    """Train ZeroSeg, or go on from the newest checkpoint of the work directory.

    Args:
      config: the whole run.
      workdir: gets manifest.json, metrics.jsonl and checkpoints/; all hosts must see it.
      teacher: the frozen CLIP: the bank must be its, or it runs inside the loop.
      options: how the run is watched.

    Returns:
      See `fit`.

    Raises:
      ValueError: config, bank, teacher and work directory do not fit together, said before
        anything starts; what `fit` raises.
    """
    options = options or Options()
    sharding.build_mesh(config)  # what cannot run is said before a bank is opened
    inputs = build_inputs(config, Path(workdir), teacher, options.log)
    objective = build_objective(config, teacher, inputs)
    painter = build_painter(config, inputs.source) if config.run.pictures_every_steps else None
    return fit(config, workdir, inputs, objective, painter=painter, options=options)


def fit(
    config: Config,
    workdir: str | Path,
    inputs: Inputs,
    objective: Objective,
    *,
    painter: Painter | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Minimise a loss over the batches of `inputs`, or go on with it.

    Args:
      config: optimizer, mesh, seed, how often to log and save.
      workdir: of the run.
      inputs: the training set.
      objective: what is learned.
      painter: params to pictures uint8 (H, W, 3) by name, every run.pictures_every_steps.
      options: how the run is watched.

    Returns:
      step, steps, whether the run is finished, and the last logged record.

    Raises:
      ValueError: the work directory is of another config or cannot be written; a mesh or batch
        that does not fit; a loss or gradient that is not finite; a checkpoint that failed.
    """
    options, workdir = options or Options(), Path(workdir)
    clock = Goodput()
    mesh = sharding.build_mesh(config)
    steps = count_steps(config, inputs.images)
    optimizer = build_optimizer(config, steps)

    def born() -> TrainState:
        return init_state(config, objective, optimizer)

    like = sharding.shard_state(jax.eval_shape(born), mesh)
    writer.open_workdir(
        workdir, config, state_bytes=_count_bytes(like), steps=steps,
        teacher=inputs.teacher_digest, overrides=options.overrides,
        allow_change=options.allow_config_change, log=options.log,
    )  # fmt: skip
    keep = config.run.keep_checkpoints
    with Checkpoints(workdir / "checkpoints", keep=keep, log=options.log) as checkpoints:
        with clock.measure("startup"):
            found = checkpoints.restore_latest(like)
            if found is None:
                places = jax.tree.map(lambda leaf: leaf.sharding, like)
                state = jax.jit(born, out_shardings=places)()
            else:
                state, kept = found
                clock.restore(kept)
                options.log(f"train: going on from step {int(state.step)} of {steps}")
        run = _Run(config, workdir, steps, int(state.step), mesh, clock, options, painter)
        step_fn = build_step(config, objective, optimizer, mesh, like)
        with contextlib.closing(run.sinks), contextlib.closing(run.profile), _catch_signal(run):
            state = run.loop(state, step_fn, inputs, checkpoints)
    done = int(state.step)
    return {"step": done, "steps": steps, "finished": done == steps, "record": run.record}


class _Run:
    """The state of the loop beside the train state."""

    def __init__(self, config, workdir, steps, start, mesh, clock, options, painter):
        self.config, self.steps, self.start, self.mesh = config, steps, start, mesh
        self.clock, self.options, self.log = clock, options, options.log
        self.painter = painter
        self.workdir = workdir
        self.sinks = writer.Sinks(workdir, start, config, options.wandb_project)
        self.watch = writer.Stopwatch(config.optim.batch_global, steps, start, clock)
        self.rate = build_schedule(config, steps)
        self.recent = Recent(workdir)
        self.profile = _Profile(workdir / "profile", start, options.profile_steps)
        self.stop_asked = False
        self.record: dict[str, Any] = {}

    def loop(self, state, step_fn, inputs: Inputs, checkpoints: Checkpoints):
        """Step until done or asked to stop; order matters: look, log, then save, then go on."""
        every = self.config.run
        per_host = self.config.optim.batch_global // jax.process_count()
        iterator = inputs.batches(self.start, batch_per_host=per_host)
        flying: deque[jax.Array] = deque()
        for step in range(self.start + 1, self.steps + 1):
            batch, indices = self._next_batch(iterator)
            if step == self.start + 1:
                with self.clock.measure("compile"):
                    step_fn = step_fn.lower(state, batch).compile()
            with self.clock.measure("step"), jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, batch)
                flying.append(metrics["finite"])
                if len(flying) > _AHEAD:
                    flying.popleft().block_until_ready()
            self.recent.add(step, metrics, indices)
            self.profile.after(step, metrics)
            stop = self._is_stop_asked(step)
            last = step == self.steps or stop
            save = step % every.checkpoint_every_steps == 0 or last
            show = step % every.log_every_steps == 0 or step in (1, self.start + 1) or last
            if save or show:
                with self.clock.measure("step"):
                    values = self.recent.settle()
            if show:
                self._log_step(step, values)
            if self.painter and (step % every.pictures_every_steps == 0 or last):
                with self.clock.measure("evaluation"):
                    self.sinks.show(step, self.painter(state.params))
            if save:
                with self.clock.measure("checkpoint"):
                    checkpoints.save(step, state, self.clock.export())
            if stop:
                self.log(f"train: asked to stop, saved step {step}; run again to go on")
                break
        return state

    def _next_batch(self, iterator):
        with self.clock.measure("input"):
            batch = dict(next(iterator))
            indices = batch.pop("index")
            shards = sharding.split(self.mesh)
            placed = {
                name: jax.make_array_from_process_local_data(shards, value)
                for name, value in batch.items()
            }
        return placed, indices

    def _is_stop_asked(self, step: int) -> bool:
        """Tell whether SIGTERM came, to this process or, of several hosts, to any."""
        if jax.process_count() == 1:
            return self.stop_asked
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(step)

    def _log_step(self, step: int, metrics: dict[str, float]) -> None:
        record = {"step": step, **metrics, "learning_rate": float(self.rate(step - 1))}
        record |= self.watch.lap(step)
        record |= {f"share_{kind}": share for kind, share in self.clock.shares().items()}
        self.sinks.write(record)
        self.log(self.watch.describe(step, record))
        self.record = record


class _Profile:
    """A profiler trace of a few steps, once compilation and the first steps are over."""

    _SKIP = 3

    def __init__(self, directory: Path, start: int, steps: int):
        self._directory, self._steps = directory, steps
        self._first = start + self._SKIP
        self._running = False

    def after(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Start or end the trace after a step."""
        if not self._steps or step not in (self._first, self._first + self._steps):
            return
        jax.block_until_ready(metrics)
        if step == self._first:
            jax.profiler.start_trace(str(self._directory))
            self._running = True
        else:
            self.close()

    def close(self) -> None:
        """End a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False


def _count_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@contextlib.contextmanager
def _catch_signal(run: _Run):
    """Let SIGTERM end the run after the step at hand, with a checkpoint.

    Of several hosts, JAX's own preemption service takes the signal and tells the others.
    """
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
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
