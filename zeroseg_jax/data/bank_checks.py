"""Checks of a bank's shards: sha256, number of records."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from zeroseg_jax.data import files
from zeroseg_jax.data.records import BankError

_CHECKED = ".checked.json"


def render_remedy(path: Path) -> str:
    """Return the end of a sentence about a shard: what to do."""
    return f"delete {path.name} and run `zeroseg prepare` again"


def count_records(path: Path) -> int:
    """Return the number of records of a shard.

    Raises:
      BankError: the file is damaged.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        try:
            return reader.num_records()
        finally:
            reader.close()
    except RuntimeError as error:
        reason = str(error).partition(";")[0].partition("\n")[0]
        raise BankError(f"{path}: damaged ({reason}); {render_remedy(path)}.") from error


def check_digests(directory: Path, paths: list[Path], manifest: dict[str, Any]) -> None:
    """Compare shards with the manifest's sums.

    Shards of the size and time of an earlier comparison are not read again.

    Args:
      directory: directory of the bank.
      paths: its shards, in order.
      manifest: its manifest, with "sha256".

    Raises:
      BankError: a shard is not the one that was written; names it.
    """
    wanted = manifest["sha256"]
    if not isinstance(wanted, list) or len(wanted) != len(paths):
        raise BankError(f"{directory}/manifest.json: sha256 is damaged; prepare it again.")
    wrong = find_wrong(directory, dict(zip(paths, wanted, strict=True)))
    for path, digest in wrong.items():
        raise BankError(
            f"{path}: not the shard that was written (sha256 {digest[:12]}, not "
            f"{str(wanted[paths.index(path)])[:12]}); {render_remedy(path)}."
        )


def find_wrong(directory: Path, wanted: dict[Path, str]) -> dict[Path, str]:
    """Return the sha256 of each shard that differs from the wanted one.

    DIRECTORY/.checked.json remembers size and time of good shards, which are not read again.

    Args:
      directory: directory of the bank.
      wanted: sha256 hex digest of each shard.
    """
    try:
        checked = files.read_json(directory / _CHECKED)
    except (OSError, ValueError):  # none yet, or damaged: every shard is read
        checked = {}
    found = {
        path.name: [path.stat().st_size, path.stat().st_mtime_ns, digest]
        for path, digest in wanted.items()
    }
    new = [path for path in wanted if checked.get(path.name) != found[path.name]]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        digests = dict(zip(new, pool.map(digest_file, new), strict=True))
    wrong = {path: digest for path, digest in digests.items() if digest != wanted[path]}
    if new:
        good = {name: stamp for name, stamp in found.items() if directory / name not in wrong}
        with contextlib.suppress(OSError):  # a bank may be mounted read-only
            files.write_json(directory / _CHECKED, {**checked, **good})
    return wrong


def digest_file(path: Path) -> str:
    """Return the sha256 hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
