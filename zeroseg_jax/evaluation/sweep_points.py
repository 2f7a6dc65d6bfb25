"""State of the points of a sweep: trained with which settings, scored at which step and how."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any

from zeroseg_jax.config import Config, to_mapping
from zeroseg_jax.data.files import read_json, write_json
from zeroseg_jax.training.workdir import MANIFEST, compare_configs, read_manifest

_SCORED = "sweep.json"  # below reports/: the flags of the evaluation
_REMEDY = "delete it and run the sweep again"


def list_differences(directory: Path, config: Config) -> list[str]:
    """List the settings in which a point differs from the run in its directory, if there is one."""
    if not (directory / MANIFEST).is_file():
        return []
    differing = compare_configs(directory, to_mapping(config))
    # The manifest names a teacher of the Hub by its commit, the config maybe by its alias.
    return [line for line in differing if not line.startswith("teacher.directory ")]


def is_trained(directory: Path) -> bool:
    """Return whether the run of a directory has the checkpoint of its last step."""
    steps = _read_steps(directory)
    return bool(steps) and (directory / "checkpoints" / str(steps)).is_dir()


def is_scored(directory: Path, benchmarks: list[str], evaluation: dict[str, Any]) -> bool:
    """Return whether every report is of the last step of its run and of these flags.

    Args:
      directory: directory of the point.
      benchmarks: names of the benchmarks; empty if points are not scored.
      evaluation: flags of the evaluation, as record_evaluation wrote them.
    """
    if not benchmarks:
        return True
    paths = [directory / "reports" / name / "report.json" for name in benchmarks]
    scored = directory / "reports" / _SCORED
    if not is_trained(directory) or not scored.is_file() or not all(p.is_file() for p in paths):
        return False
    end = f" at step {_read_steps(directory)}"
    return read_json(scored, remedy=_REMEDY) == evaluation and all(
        str(read_json(path, remedy=_REMEDY).get("checkpoint")).endswith(end) for path in paths
    )


def record_evaluation(directory: Path, evaluation: dict[str, Any]) -> None:
    """Write the flags with which a point was scored."""
    write_json(directory / "reports" / _SCORED, evaluation)


def move_away(directory: Path) -> Path:
    """Rename the directory of a point to the first free NNN.beforeK; return the new path."""
    number = 1
    while (target := directory.with_name(f"{directory.name}.before{number}")).exists():
        number += 1
    os.replace(directory, target)
    return target


def stop_all(
    running: set[subprocess.Popen], then: Any, number: int, frame: FrameType | None
) -> None:
    """Pass a signal on to the running points, wait until each has saved a checkpoint, and end."""
    for process in list(running):
        process.terminate()
    for process in list(running):
        process.wait()
    then(number, frame)


def _read_steps(directory: Path) -> int:
    return read_manifest(directory)["steps"] if (directory / MANIFEST).is_file() else 0
