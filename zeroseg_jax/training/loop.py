"""Training loop for every method, recipe and number of devices: resume, step, log, save."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from zeroseg_jax.config import Config
from zeroseg_jax.data import mirrors
from zeroseg_jax.data.locks import lock_directory
from zeroseg_jax.models.fused_attention import choose_core
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.training import memory, sharding
from zeroseg_jax.training.checkpoint import Checkpoints
from zeroseg_jax.training.finite_check import FiniteCheck
from zeroseg_jax.training.inputs import HostBatch, Inputs, build_inputs
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.metrics import Sinks
from zeroseg_jax.training.objective import Batch, Metrics, Objective
from zeroseg_jax.training.optimizer import build_optimizer, build_schedule, count_steps
from zeroseg_jax.training.previews import build_previews
from zeroseg_jax.training.state import TrainState, init_state
from zeroseg_jax.training.step import build_step
from zeroseg_jax.training.timing import Goodput, Stopwatch
from zeroseg_jax.training.watchdog import Watchdog
from zeroseg_jax.training.workdir import check_room, open_workdir

# Maximum number of dispatched steps. More would only queue batches on the devices.
_IN_FLIGHT = 2
# Steps at which Objective.diagnose reads the metrics: logged ones of this range, and the last.
_DIAGNOSED = range(20, 101)
Previews = Callable[[Any], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Logging and resume options, which do not change the numbers of a run.

    Attributes:
      log: receiver of progress lines.
      overrides: settings given on the command line, for the manifest.
      allow_config_change: True to resume a work directory with other settings.
      wandb_project: project of Weights & Biases; empty for none.
      profile_steps: number of steps traced to WORKDIR/profile, after the first few; 0 for none.
    """

    log: Callable[[str], None] = print
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    allow_config_change: bool = False
    wandb_project: str = ""
    profile_steps: int = 0


def train(
    config: Config, workdir: str | Path, *, teacher: Teacher, options: Options | None = None
) -> dict[str, Any]:
    """Train a student, or resume from the newest checkpoint of the work directory.

    Args:
      config: settings of the run.
      workdir: folder of manifest.json, metrics.jsonl and checkpoints/, visible to all hosts.
      teacher: frozen CLIP, the one that made the bank or that runs inside the loop.
      options: logging and resume options.

    Returns:
      Result of `fit`.

    Raises:
      ValueError: settings, bank, teacher or work directory that do not fit together, before
        training starts; errors of `fit`.
    """
    options = options or Options()
    sharding.build_mesh(config)  # errors of the mesh come before the bank is opened
    inputs = build_inputs(config, Path(workdir), teacher, options.log)
    objective = METHODS[config.objective].build(config, teacher, inputs)
    previews = build_previews(config, inputs.source) if config.run.pictures_every_steps else None
    return fit(config, workdir, inputs, objective, previews=previews, options=options)


def fit(
    config: Config,
    workdir: str | Path,
    inputs: Inputs,
    objective: Objective,
    *,
    previews: Previews | None = None,
    options: Options | None = None,
) -> dict[str, Any]:
    """Minimise a loss over the batches of `inputs`, or resume from the newest checkpoint.

    Args:
      config: optimizer, mesh, seed, and intervals of logging and saving.
      workdir: work directory.
      inputs: training set.
      objective: loss and initialisation.
      previews: function from parameters to images uint8 (H, W, 3) by name, called every
        run.pictures_every_steps; None for no images.
      options: logging and resume options.

    Returns:
      {"step", "steps", "finished", "signal", "record"}: steps done, steps of the run, their
      equality, the number of the signal that stopped the run or 0, and the last logged metrics.

    Raises:
      ValueError: a work directory of other settings or without write access; a mesh or batch
        that does not fit, or state, batches or step that exceed the memory; a non-finite loss or
        gradient; a checkpoint that cannot be written.
    """
    options, workdir = options or Options(), mirrors.localise(workdir)
    if jax.config.read("jax_enable_x64"):
        raise ValueError("JAX_ENABLE_X64: training computes in float32; unset it or set it to 0.")
    clock = Goodput()
    mesh = sharding.build_mesh(config)
    steps = count_steps(config, inputs.images)
    optimizer = build_optimizer(config, steps)

    def initial_state() -> TrainState:
        return init_state(config, objective, optimizer)

    abstract_state = sharding.shard_state(
        jax.eval_shape(initial_state), mesh, shard_optimizer=config.mesh.shard_optimizer
    )
    memory.check_state(abstract_state, mesh)
    memory.check_batches(config, inputs.source[0])
    leaves = jax.tree.leaves(abstract_state)
    check_room(workdir, sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:  # the other hosts of a run write with it
            stack.enter_context(lock_directory(workdir, "trains"))
        open_workdir(
            workdir, config, steps=steps, teacher=inputs.teacher_digest,
            overrides=options.overrides, allow_change=options.allow_config_change, log=options.log,
        )  # fmt: skip
        # Before the checkpoints, so that signals are caught until the last one is complete.
        signals = stack.enter_context(contextlib.ExitStack())
        keep = config.run.keep_checkpoints
        checkpoints = stack.enter_context(
            Checkpoints(workdir / "checkpoints", keep=keep, log=options.log)
        )
        with clock.measure("startup"):
            found = checkpoints.restore_latest(abstract_state)
            if found is None:
                shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
                state = jax.jit(initial_state, out_shardings=shardings)()
            else:
                state, seconds = found
                clock.restore(seconds)
                options.log(f"train: resuming from step {int(state.step)} of {steps}")
        run = _Run(
            config, workdir, steps, int(state.step), mesh, clock, options, previews,
            objective.diagnose,
        )  # fmt: skip
        step_fn = build_step(config, objective, optimizer, mesh, abstract_state)
        run.signals = signals
        with contextlib.closing(run.sinks), contextlib.closing(run.profile), run.watchdog:
            state = run.loop(state, step_fn, inputs, checkpoints)
    done = int(state.step)
    return {
        "step": done,
        "steps": steps,
        "finished": done == steps,
        "signal": run.stop_signal,
        "record": run.record,
    }


def _describe_compilation(config: Config, mesh: Mesh) -> str:
    device = mesh.devices.flat[0]
    core = choose_core(config.run.attention, device.platform, config.run.dtype)
    return (
        f"train: compiling the step for {mesh.size} x {device.device_kind}, attention core {core} "
        f"(run.attention={config.run.attention})"
    )


class _Run:
    """State of the loop other than the train state."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        steps: int,
        start: int,
        mesh: Mesh,
        clock: Goodput,
        options: Options,
        previews: Previews | None,
        diagnose: Callable[[dict[str, float]], str],
    ) -> None:
        self.config, self.steps, self.start, self.mesh = config, steps, start, mesh
        self.clock, self.log, self.previews = clock, options.log, previews
        self.diagnose, self.warned = diagnose, False
        self.sinks = Sinks(workdir, start, config, options.wandb_project)
        self.watch = Stopwatch(config.optim.batch_global, steps, start, clock)
        self.rate = build_schedule(config, steps)
        self.finite = FiniteCheck(workdir)
        self.profile = _Profile(workdir / "profile", start, options.profile_steps)
        self.watchdog = Watchdog(config.run.watchdog_seconds)
        self.stop_signal, self.signals = 0, contextlib.ExitStack()
        self.record: dict[str, Any] = {}

    def loop(
        self, state: TrainState, step_fn: Any, inputs: Inputs, checkpoints: Checkpoints
    ) -> TrainState:
        """Step until the end or a request to stop; check, then log, then save."""
        every = self.config.run
        per_host = self.config.optim.batch_global // jax.process_count()
        iterator = inputs.batches(self.start, batch_per_host=per_host)
        in_flight: deque[jax.Array] = deque()
        for step in range(self.start + 1, self.steps + 1):
            batch, indices = self._next_batch(iterator)
            if step == self.start + 1:
                self.log(_describe_compilation(self.config, self.mesh))
                with self.clock.measure("compile"):
                    step_fn = memory.compile_step(step_fn, state, batch, self.mesh)
                self.watch.restart()
                self.signals.enter_context(_catch_signal(self))  # there is work now
            annotation = jax.profiler.StepTraceAnnotation("train", step_num=step)
            with self.clock.measure("step"), jax.transfer_guard("disallow"), annotation:
                state, metrics = step_fn(state, batch)
                in_flight.append(metrics["finite"])
                if len(in_flight) > _IN_FLIGHT:
                    in_flight.popleft().block_until_ready()
            self.watchdog.beat()
            self.finite.add(step, metrics, indices)
            self.profile.after(step, metrics)
            stop = self._is_stop_asked(step)
            last = step == self.steps or stop
            save = step % every.checkpoint_every_steps == 0 or last
            log = step % every.log_every_steps == 0 or step in (1, self.start + 1) or last
            diagnose = step in _DIAGNOSED and (log or step == _DIAGNOSED[-1])
            if save or log or diagnose:
                with self.clock.measure("step"):
                    values = self.finite.check()
            if log:
                self._log_step(step, values)
            if diagnose:
                self._warn(step, values)
            if self.previews and (step % every.pictures_every_steps == 0 or last):
                with self.clock.measure("evaluation"):
                    self.sinks.write_images(step, self.previews(state.params))
            if save:
                with self.clock.measure("checkpoint"):
                    self.sinks.upload()
                    checkpoints.save(step, state, self.clock.export())
            if stop:
                self.log(f"train: asked to stop, saved step {step}; run again to resume")
                break
        return state

    def _next_batch(self, iterator: Iterator[HostBatch]) -> tuple[Batch, np.ndarray]:
        """Return the next batch on the devices, and this host's image indices."""
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
        """Return True after a signal to this process or, with several hosts, to any of them."""
        if jax.process_count() == 1:
            return bool(self.stop_signal)
        from jax.experimental import multihost_utils

        stop = multihost_utils.reached_preemption_sync_point(step)
        self.stop_signal = signal.SIGTERM if stop else 0
        return stop

    def _log_step(self, step: int, metrics: dict[str, float]) -> None:
        record = {"step": step, **metrics, "learning_rate": float(self.rate(step - 1))}
        record |= self.watch.lap(step) | memory.read_peak(self.mesh)
        record |= {f"share_{kind}": share for kind, share in self.clock.shares().items()}
        self.sinks.write(record)
        self.log(self.watch.render_line(step, record))
        self.record = record

    def _warn(self, step: int, metrics: dict[str, float]) -> None:
        """Log the objective's first warning about early steps."""
        warning = "" if self.warned else self.diagnose(metrics)
        if warning:
            self.log(f"train: warning at step {step}: {warning}")
            self.warned = True


class _Profile:
    """Profiler trace of a few steps after the first ones, which include compilation."""

    _SKIP = 3

    def __init__(self, directory: Path, start: int, steps: int) -> None:
        self._directory, self._steps = directory, steps
        self._first = start + self._SKIP
        self._running = False

    def after(self, step: int, metrics: Metrics) -> None:
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
            mirrors.push_tree(self._directory)
            self._running = False


@contextlib.contextmanager
def _catch_signal(run: _Run) -> Iterator[None]:
    """On SIGTERM or SIGINT, finish the current step, save a checkpoint and stop.

    A second SIGINT ends the process at once. With several hosts, JAX's preemption service receives
    SIGTERM and informs the others.
    """
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield
        return

    def ask(number: int, frame: Any) -> None:
        del frame
        run.stop_signal = number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
