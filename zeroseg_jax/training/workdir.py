"""Work directory of a run: manifest.json, settings that may change on resume, machine record."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from zeroseg_jax.config import Config, rename_old, to_mapping
from zeroseg_jax.data import files, mirrors

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# Fields that may change on resume, because they do not change the numbers.
FREE_FIELDS = frozenset(
    {
        "run.watchdog_seconds",
        "run.log_every_steps",
        "run.checkpoint_every_steps",
        "run.keep_checkpoints",
        "run.pictures_every_steps",
        "run.attention",
        "run.remat",
        "run.scan_blocks",
        "mesh.data",
        "mesh.fsdp",
        "mesh.tensor",
        "mesh.shard_optimizer",
        "data.bank",
        "data.workers",
        "data.prefetch_batches",
    }
)


def describe_machine() -> dict[str, Any]:
    """Return versions of Python and packages, the machine, its devices and the git commit."""
    versions: dict[str, str | None] = {}
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
    steps: int,
    teacher: str,
    overrides: dict[str, Any],
    allow_change: bool,
    log: Callable[[str], None],
) -> None:
    """Create the work directory with its manifest.json, or check that it belongs to this config.

    Process 0 writes; all processes check. In a mirror both files are read from the bucket first.

    Args:
      workdir: work directory.
      config: settings of the run.
      steps: number of steps of the run.
      teacher: sha256 hex digest of the teacher.
      overrides: settings given on the command line.
      allow_change: True to log settings that differ from the manifest, False to refuse them.
      log: receiver of that line.

    Raises:
      ValueError: the directory belongs to another config; the message names every differing field.
      OSError: the directory cannot be written.
    """
    # Process 0 has the lock, and is the only one that writes the log of its host's mirror.
    mirrors.pull(workdir, (MANIFEST, METRICS) if jax.process_index() == 0 else (MANIFEST,))
    path = workdir / MANIFEST
    content = {
        "config": to_mapping(config),
        "overrides": overrides,
        "steps": steps,
        "teacher": teacher,
        **describe_machine(),
    }
    if path.is_file():
        differing = compare_configs(workdir, content["config"])
        if not differing:
            return
        if not allow_change:
            raise ValueError(
                f"{workdir}: made by another config, which differs in {'; '.join(differing)}; "
                "use another --workdir, or --allow_config_change to resume with these settings."
            )
        log(f"train: resuming {workdir} with other settings: {'; '.join(differing)}")
    if jax.process_index() == 0:
        files.write_json(path, content, fsync=True)


def check_room(workdir: Path, state_bytes: int) -> None:
    """Make the work directory and check that a checkpoint fits there.

    The disk of a mirror is not checked: its checkpoints are in the bucket only.

    Args:
      workdir: work directory.
      state_bytes: size of a checkpoint.

    Raises:
      ValueError: the directory is an address other than gs:// or cannot be written, or its disk is
        too small.
    """
    if workdir.parts and workdir.parts[0].endswith(":"):  # a path holds s3:// as s3:/
        raise ValueError(
            f"--workdir: {workdir} is an address; give gs://BUCKET/NAME or the path of a mount."
        )
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
    if state_bytes > free and not mirrors.find_address(workdir):
        raise ValueError(
            f"--workdir: a checkpoint needs {state_bytes / 1e6:.1f} MB, and {free / 1e6:.1f} MB "
            f"are free at {workdir}; free space or name another directory."
        )


def read_manifest(workdir: Path) -> dict[str, Any]:
    """Read the manifest of a work directory.

    Raises:
      FileNotFoundError: the directory has none.
      ValueError: the file is damaged; names it.
    """
    return files.read_json(
        workdir / MANIFEST,
        remedy="restore it from a copy or use another --workdir",
        fields={"config": dict, "steps": int},
    )


def compare_configs(workdir: Path, config: dict[str, Any]) -> list[str]:
    """List the fields of a config that differ from a manifest's and change the numbers.

    Args:
      workdir: work directory with a manifest.
      config: settings, from to_mapping.

    Raises:
      ValueError: the manifest is damaged; names it.
    """
    # A field that the manifest lacks had its default value.
    found = rename_old(read_manifest(workdir)["config"])
    # Converted through JSON, so that tuples compare as lists.
    default, now = (json.loads(json.dumps(tree)) for tree in (to_mapping(Config()), config))
    default, before, now = (flatten_dict(tree, sep=".") for tree in (default, found, now))
    before = default | before
    return [
        f"{name} ({before.get(name)!r} there, {now.get(name)!r} now)"
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name) and name not in FREE_FIELDS
    ]
