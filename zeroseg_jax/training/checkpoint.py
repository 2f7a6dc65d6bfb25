"""Orbax checkpoints of a run: save, restore, detection of damage, loading of parameters.

A checkpoint WORKDIR/checkpoints/STEP has three items. `state`: nested dicts of the train state.
`sums`: one checksum per leaf, because Orbax reads some damaged files without an error. `clock`:
elapsed seconds by kind. The data position is not stored: it is the step.

A work directory in a mirror (data/mirrors.py) has its checkpoints in the bucket alone, where every
host writes its part.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.training import timing, trees
from zeroseg_jax.training.checkpoint_folders import find_folder, list_steps
from zeroseg_jax.training.state import TrainState
from zeroseg_jax.training.student_files import EXPORT_CONFIG, read_export
from zeroseg_jax.training.workdir import MANIFEST, read_manifest

_STATE, _SUMS, _CLOCK = "state", "sums", "clock"
# Exceptions of Orbax and its stores for truncated, missing or damaged files. Orbax's own errors
# are subclasses of KeyError and FileNotFoundError.
_DAMAGE = (KeyError, ValueError, OSError)


class CheckpointError(ValueError):
    """A checkpoint that could not be written; the message names the newest complete one."""


class DamagedError(ValueError):
    """A checkpoint whose files differ from what was written."""


class Checkpoints:
    """Checkpoints of a work directory, as a context manager.

    Args:
      directory: folder of the checkpoints, created if missing; of a mirror its address is used.
      keep: number of newest checkpoints to keep.
      log: receiver of one line per damaged checkpoint.
    """

    def __init__(self, directory: Path, *, keep: int, log: Callable[[str], None] = print) -> None:
        ocp = _import_orbax()
        self.directory = find_folder(directory)
        self._log = log
        policies = ocp.training.save_decision_policies
        self._manager = ocp.training.Checkpointer(
            self.directory,
            # The loop decides when to save; every request is carried out.
            save_decision_policy=policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        logging.getLogger("absl").addFilter(_is_not_raised)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            with self._explain_errors():
                self._manager.close()
        finally:
            logging.getLogger("absl").removeFilter(_is_not_raised)

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, rising."""
        return [checkpoint.step for checkpoint in self._manager.checkpoints]

    def save(self, step: int, state: TrainState, clock: np.ndarray) -> None:
        """Start an asynchronous save; return when the memory of the state may be reused.

        A checkpoint gets its name when it is complete: a process that dies during a save leaves
        the previous checkpoint as the newest. A failed save raises at the next call, or at the
        end of the context.

        Args:
          step: step of the state.
          state: train state.
          clock: float64 (n,), seconds, from timing.Goodput.export.

        Raises:
          CheckpointError: this save or the previous one could not be written.
        """
        plain = trees.unflatten(trees.flatten(state))
        items = {
            _STATE: plain,
            _SUMS: {"leaves": _sum_leaves(jax.tree.leaves(plain))},
            _CLOCK: {"seconds": clock},
        }
        with self._explain_errors():
            self._manager.save_checkpointables_async(step, items, force=True)

    @contextlib.contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            # Read from the disk, because the manager may count the failed one.
            good = list_steps(self.directory)
            kept = f"the newest good one is step {max(good)}" if good else "there is no earlier one"
            raise CheckpointError(
                f"{self.directory}: a checkpoint could not be written ({_first_cause(error)}); "
                f"{kept}; free space, then run the same command again to resume."
            ) from error

    def restore_latest(self, abstract_state: TrainState) -> tuple[TrainState, np.ndarray] | None:
        """Restore the newest undamaged checkpoint.

        Damaged ones are moved to DIRECTORY.damaged and logged with the reason.

        Args:
          abstract_state: shapes and shardings of the state, from sharding.shard_state; the
            checkpoint may come from another mesh.

        Returns:
          The state and the clock, or None without a checkpoint.

        Raises:
          ValueError: a leaf of another shape, with its name and both shapes; every checkpoint is
            damaged; or the newest one of a bucket cannot be read.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                return self._restore(step, abstract_state)
            except DamagedError as error:
                if not isinstance(self.directory, Path):
                    # A network that fails looks the same, and the store has sums of its own.
                    raise ValueError(
                        f"{self.directory}/{step}: cannot be read ({error}); run the same command "
                        "again, or move that folder away to resume from the one before."
                    ) from error
                damaged.append(step)
                self._discard(step, error)
        if damaged:
            raise ValueError(
                f"{self.directory}: every checkpoint there is damaged ({damaged}); start again in "
                "another work directory."
            )
        return None

    def _restore(self, step: int, abstract_state: TrainState) -> tuple[TrainState, np.ndarray]:
        path = self.directory / str(step)
        wanted = trees.flatten(abstract_state)
        reason, clock = "", np.zeros(timing.count_values())
        flat: dict[str, Any] = {}
        try:
            _check_shapes(path, _read_shapes(path), wanted)
            flat, clock = _load(path, wanted, abstract_state.step.sharding)
        except DamagedError as error:
            reason = str(error)
        _agree(reason)
        treedef = jax.tree.structure(abstract_state)
        return jax.tree.unflatten(treedef, [flat[name] for name in wanted]), clock

    def _discard(self, step: int, error: DamagedError) -> None:
        if jax.process_index() == 0:
            self._move(step, error)
        multihost_utils.sync_global_devices("a damaged checkpoint was moved")
        self._manager.reload()

    def _move(self, step: int, error: DamagedError) -> None:
        folder = self.directory.with_name(self.directory.name + ".damaged")
        folder.mkdir(exist_ok=True)
        target = folder / str(step)
        number = 1
        while target.exists():
            number += 1
            target = folder / f"{step}-{number}"
        os.replace(self.directory / str(step), target)
        self._log(
            f"checkpoint {step} is damaged ({error}); moved to {target}, using the previous one"
        )


def load_params(directory: str | Path) -> tuple[Any, Config, int]:
    """Load the parameters of a student from a work directory or an export.

    Args:
      directory: work directory, whose newest undamaged checkpoint is read; or folder that
        `export_params` wrote.

    Returns:
      Nested dict of float32 parameters on the default device, settings, and step.

    Raises:
      ValueError: a folder of neither kind, or without an undamaged checkpoint.
    """
    root = Path(directory)
    if (root / EXPORT_CONFIG).is_file():
        params, config, step = read_export(root)
        # jnp.asarray would compile a program for each shape.
        return jax.device_put(params), config, step
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise ValueError(
            f"{directory}: neither a work directory ({MANIFEST}) nor an exported student "
            f"({EXPORT_CONFIG}); give --workdir of a training run."
        )
    checkpoints = find_folder(root / "checkpoints")
    steps = sorted(list_steps(checkpoints), reverse=True)
    config = from_mapping(read_manifest(root)["config"], str(manifest))
    reasons = []
    for step in steps:
        try:
            return _load_step_params(checkpoints / str(step)), config, step
        except DamagedError as error:
            reasons.append(f"step {step}: {error}")
    found = "; ".join(reasons) or "none was written yet"
    raise ValueError(f"{checkpoints}: no checkpoint to read ({found}); train first.")


def _import_orbax() -> ModuleType:
    """Import Orbax: it takes half a second, and exported students do not need it."""
    from orbax.checkpoint import v1

    return v1


def _load_step_params(path: Path) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {
        # The optimizer's state is not read: it has twice the size of the parameters.
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=device)
        if name.startswith("params/")
        else _import_orbax().PLACEHOLDER
        for name, (shape, dtype) in _read_shapes(path).items()
    }
    flat, _ = _load(path, wanted, device)
    return trees.unflatten(flat)["params"]


def _read_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    try:
        metadata = _import_orbax().checkpointables_metadata(path).metadata[_STATE]
    except _DAMAGE as error:
        raise DamagedError(_first_cause(error)) from error
    if not isinstance(metadata, dict):
        raise DamagedError("the list of its arrays cannot be read")
    return {name: (leaf.shape, leaf.dtype) for name, leaf in trees.flatten(metadata).items()}


def _check_shapes(
    path: Path, found: dict[str, tuple[tuple[int, ...], np.dtype]], wanted: dict[str, Any]
) -> None:
    advice = "use the config in the run's manifest.json, or another work directory."
    for name, leaf in wanted.items():
        if name not in found:
            raise ValueError(f"{path}: has no {name}, which these settings need; {advice}")
        shape = found[name][0]
        if tuple(shape) != tuple(leaf.shape):
            raise ValueError(
                f"{path}: {name} has shape {tuple(shape)}, but these settings make it "
                f"{tuple(leaf.shape)}; {advice}"
            )
    for name in found:
        if name not in wanted:
            raise ValueError(f"{path}: has {name}, which these settings do not have; {advice}")


def _load(
    path: Path, wanted: dict[str, Any], whole: jax.sharding.Sharding
) -> tuple[dict[str, Any], np.ndarray]:
    """Read the leaves of `wanted` except placeholders, and the clock; verify the sums."""
    ocp = _import_orbax()
    tree = trees.unflatten(wanted)
    names = list(trees.flatten(tree))
    sums = jax.ShapeDtypeStruct((len(names),), jnp.uint32, sharding=whole)
    try:
        items = ocp.load_checkpointables(
            path,
            {
                _STATE: tree,
                _SUMS: {"leaves": sums},
                _CLOCK: {"seconds": np.zeros(timing.count_values())},
            },
        )
    except _DAMAGE as error:
        raise DamagedError(_first_cause(error)) from error
    flat = {
        name: leaf
        for name, leaf in trees.flatten(items[_STATE]).items()
        if wanted[name] is not ocp.PLACEHOLDER
    }
    written = dict(zip(names, np.asarray(items[_SUMS]["leaves"]), strict=True))
    read = np.asarray(_sum_leaves(list(flat.values())))
    for name, value in zip(flat, read, strict=True):
        if value != written[name]:
            raise DamagedError(f"{name} is not what was written")
    return flat, np.asarray(items[_CLOCK]["seconds"])


def _agree(reason: str) -> None:
    """Raise DamagedError on every host if one of them has a reason."""
    found = bool(reason)
    if jax.process_count() > 1:
        found = bool(np.any(multihost_utils.process_allgather(np.bool_(found))))
    if found:
        raise DamagedError(reason or "another host cannot read its part")


@jax.jit
def _sum_leaves(leaves: list[jax.Array]) -> jax.Array:
    """Return the sum of each leaf's bits as integers modulo 2**32, equal on every mesh."""
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
    sums = [
        jax.lax.bitcast_convert_type(leaf, unsigned[leaf.dtype.itemsize]).sum(dtype=jnp.uint32)
        for leaf in leaves
    ]
    return jnp.stack(sums)


def _is_not_raised(record: logging.LogRecord) -> bool:
    """Filter out errors of Orbax: it logs what it raises, from each thread with a traceback."""
    return record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts


def _first_cause(error: BaseException) -> str:
    """Return the first line of the innermost error; of a full disk only the system's words."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in text:
            return os.strerror(number)
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no message'}"
