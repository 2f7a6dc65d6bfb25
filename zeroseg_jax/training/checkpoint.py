"""Checkpoints of a run, and its parameters for whoever comes after.

The only file that imports Orbax. A checkpoint WORKDIR/checkpoints/STEP holds three items: `state`,
nested dicts of plain string keys {step, params, opt_state}; `sums`, one number a leaf by which
a damaged file is noticed even where Orbax reads it without complaint; and `clock`, the seconds
that the run has spent. Where the data stands is the step itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.files import read_json
from zeroseg_jax.training import timing as goodput
from zeroseg_jax.training import trees as paths
from zeroseg_jax.training.state import TrainState
from zeroseg_jax.training.student_files import EXPORT_CONFIG, export_params, read_export

__all__ = ["Checkpoints", "export_params", "load_params"]

_STATE, _SUMS, _CLOCK = "state", "sums", "clock"
# What Orbax and its stores raise on files that are cut, missing or scrambled (its own errors are
# subclasses of KeyError and FileNotFoundError).
_DAMAGE = (KeyError, ValueError, OSError)


class CheckpointError(ValueError):
    """A checkpoint that could not be written; the message says which is the newest good one."""


class DamagedError(ValueError):
    """A checkpoint whose files are not what was written."""


class Checkpoints:
    """The checkpoints of one work directory; use as a context manager.

    Args:
      directory: made if missing.
      keep: how many of the newest stay.
      log: takes a line for each checkpoint that had to be set aside.
    """

    def __init__(self, directory: Path, *, keep: int, log: Callable[[str], None] = print):
        self.directory = Path(directory).absolute()
        self._log = log
        policies = ocp.training.save_decision_policies
        self._manager = ocp.training.Checkpointer(
            self.directory,
            # The loop decides when; every request is honoured.
            save_decision_policy=policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._naming_failures():
            self._manager.close()

    @property
    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, rising."""
        return [checkpoint.step for checkpoint in self._manager.checkpoints]

    def save(self, step: int, state: TrainState, clock: np.ndarray) -> None:
        """Start to save; returns once the state's memory may be reused.

        A checkpoint appears under its name only when whole, so a process that dies while
        writing leaves the one before as the newest. A save that failed raises at the next
        call, or at the end of the context.

        Args:
          step: its name.
          state: to be saved.
          clock: float64 (n,), seconds; see goodput.Goodput.export.

        Raises:
          CheckpointError: this save or the one before could not be written.
        """
        plain = paths.unflatten(paths.flatten(state))
        items = {
            _STATE: plain,
            _SUMS: {"leaves": _sum_leaves(jax.tree.leaves(plain))},
            _CLOCK: {"seconds": clock},
        }
        with self._naming_failures():
            self._manager.save_checkpointables_async(step, items, force=True)

    @contextlib.contextmanager
    def _naming_failures(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            # What the disk says: the manager may count the one that failed.
            good = [int(p.name) for p in self.directory.iterdir() if p.name.isdigit()]
            kept = f"the newest good one is step {max(good)}" if good else "none is before it"
            raise CheckpointError(
                f"{self.directory}: a checkpoint could not be written ({_first_cause(error)}); "
                f"{kept}; make room, then run the same command again to go on."
            ) from error

    def restore_latest(self, abstract_state: TrainState) -> tuple[TrainState, np.ndarray] | None:
        """Restore the newest checkpoint that is whole.

        Damaged ones are moved to DIRECTORY.damaged and said so, each with its reason.

        Args:
          abstract_state: jax.ShapeDtypeStruct leaves with shardings, as the run wants them;
            the checkpoint may come from another mesh.

        Returns:
          The state and the clock, or None where there is no checkpoint.

        Raises:
          ValueError: a leaf of another shape, naming it and both shapes; or all checkpoints
            are damaged.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                return self._restore(step, abstract_state)
            except DamagedError as error:
                damaged.append(step)
                self._set_aside(step, error)
        if damaged:
            raise ValueError(
                f"{self.directory}: every checkpoint there is damaged ({damaged}); start anew in "
                "another work directory."
            )
        return None

    def _restore(self, step: int, abstract_state: TrainState) -> tuple[TrainState, np.ndarray]:
        path = self.directory / str(step)
        wanted = paths.flatten(abstract_state)
        reason, flat, clock = "", {}, None
        try:
            _check_shapes(path, _read_shapes(path), wanted)
            flat, clock = _load(path, wanted, abstract_state.step.sharding)
        except DamagedError as error:
            reason = str(error)
        _agree(reason)
        treedef = jax.tree.structure(abstract_state)
        return jax.tree.unflatten(treedef, [flat[name] for name in wanted]), clock

    def _set_aside(self, step: int, error: DamagedError) -> None:
        if jax.process_index() == 0:
            self._move(step, error)
        multihost_utils.sync_global_devices("a damaged checkpoint is set aside")
        self._manager.reload()

    def _move(self, step: int, error: DamagedError) -> None:
        aside = self.directory.with_name(self.directory.name + ".damaged")
        aside.mkdir(exist_ok=True)
        target = aside / str(step)
        number = 1
        while target.exists():
            number += 1
            target = aside / f"{step}-{number}"
        os.replace(self.directory / str(step), target)
        self._log(
            f"checkpoint {step} is damaged ({error}); moved to {target}, taking the one before"
        )


def load_params(directory: str | Path) -> tuple[Any, Config, int]:
    """Load a student's parameters from a work directory or from an export.

    Args:
      directory: WORKDIR with manifest.json and checkpoints/, of which the newest whole one is
        read; or what `export_params` wrote.

    Returns:
      The nested dict of float32 parameters on the default device, the config, the step.

    Raises:
      ValueError: neither layout, no checkpoint yet, or nothing there is whole.
    """
    root = Path(directory)
    if (root / EXPORT_CONFIG).is_file():
        params, config, step = read_export(root)
        return jax.tree.map(jnp.asarray, params), config, step
    manifest = root / "manifest.json"
    if not manifest.is_file():
        raise ValueError(
            f"{directory}: neither a work directory (manifest.json) nor an exported student "
            f"({EXPORT_CONFIG}); give --workdir of a training run."
        )
    checkpoints = root.absolute() / "checkpoints"
    names = [entry.name for entry in checkpoints.iterdir()] if checkpoints.is_dir() else []
    steps = sorted((int(name) for name in names if name.isdigit()), reverse=True)
    config = from_mapping(read_json(manifest, remedy="train again")["config"])
    reasons = []
    for step in steps:
        try:
            return _load_step_params(checkpoints / str(step)), config, step
        except DamagedError as error:
            reasons.append(f"step {step}: {error}")
    found = "; ".join(reasons) or "none was written yet"
    raise ValueError(f"{checkpoints}: no checkpoint to read ({found}); train first.")


def _load_step_params(path: Path) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        # The rest is left out of the read: it is twice the size of the parameters.
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=device)
        if name.startswith("params/")
        else ocp.PLACEHOLDER
        for name, (shape, dtype) in _read_shapes(path).items()
    }
    flat, _ = _load(path, wanted, device)
    return paths.unflatten(flat)["params"]


def _read_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    try:
        metadata = ocp.checkpointables_metadata(path).metadata[_STATE]
    except _DAMAGE as error:
        raise DamagedError(_first_cause(error)) from error
    if not isinstance(metadata, dict):
        raise DamagedError("the list of its arrays cannot be read")
    return {name: (leaf.shape, leaf.dtype) for name, leaf in paths.flatten(metadata).items()}


def _check_shapes(
    path: Path, found: dict[str, tuple[tuple[int, ...], np.dtype]], wanted: dict[str, Any]
) -> None:
    advice = "use the config in the run's manifest.json, or another work directory."
    for name, leaf in wanted.items():
        if name not in found:
            raise ValueError(f"{path}: has no {name}, which this config needs; {advice}")
        shape = found[name][0]
        if tuple(shape) != tuple(leaf.shape):
            raise ValueError(
                f"{path}: {name} has shape {tuple(shape)}, but this config makes it "
                f"{tuple(leaf.shape)}; {advice}"
            )
    for name in found:
        if name not in wanted:
            raise ValueError(f"{path}: has {name}, which this config has not; {advice}")


def _load(
    path: Path, wanted: dict[str, Any], whole: jax.sharding.Sharding
) -> tuple[dict[str, Any], np.ndarray]:
    """Read the leaves of `wanted` by name, without placeholders, compare their sums; the clock."""
    tree = paths.unflatten(wanted)
    names = paths.name_leaves(tree)
    sums = jax.ShapeDtypeStruct((len(names),), jnp.uint32, sharding=whole)
    try:
        items = ocp.load_checkpointables(
            path,
            {
                _STATE: tree,
                _SUMS: {"leaves": sums},
                _CLOCK: {"seconds": np.zeros(goodput.size())},
            },
        )
    except _DAMAGE as error:
        raise DamagedError(_first_cause(error)) from error
    flat = {
        name: leaf
        for name, leaf in paths.flatten(items[_STATE]).items()
        if wanted[name] is not ocp.PLACEHOLDER
    }
    written = dict(zip(names, np.asarray(items[_SUMS]["leaves"]), strict=True))
    read = np.asarray(_sum_leaves(list(flat.values())))
    for name, value in zip(flat, read, strict=True):
        if value != written[name]:
            raise DamagedError(f"{name} is not what was written")
    return flat, np.asarray(items[_CLOCK]["seconds"])


def _agree(reason: str) -> None:
    """Raise DamagedError on every host where one of them found a reason."""
    found = bool(reason)
    if jax.process_count() > 1:
        found = np.any(multihost_utils.process_allgather(np.bool_(found)))
    if found:
        raise DamagedError(reason or "another host could not read its part")


@jax.jit
def _sum_leaves(leaves: list[jax.Array]) -> jax.Array:
    """Add the bits of each leaf as integers, modulo 2**32, in any order and on any mesh."""
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
    sums = [
        jax.lax.bitcast_convert_type(leaf, unsigned[leaf.dtype.itemsize]).sum(dtype=jnp.uint32)
        for leaf in leaves
    ]
    return jnp.stack(sums)


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
