"""Folders of checkpoints, on disk or at gs://: which steps are complete there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zeroseg_jax.data import mirrors

# Orbax renames a complete folder on disk. A store has no renaming: this object completes one.
_COMPLETE = "commit_success.txt"


def find_folder(directory: str | Path) -> Any:
    """Return the absolute path, or for a folder of a mirror its address as an epath.Path."""
    if address := mirrors.find_address(Path(directory)):
        from etils import epath

        return epath.Path(address)
    return Path(directory).absolute()


def list_steps(directory: Any) -> list[int]:
    """Return the steps of the complete checkpoints of a folder from find_folder."""
    entries = list(directory.iterdir()) if directory.is_dir() else []
    if not isinstance(directory, Path):
        entries = [entry for entry in entries if (entry / _COMPLETE).exists()]
    return [int(entry.name) for entry in entries if entry.name.isdigit()]
