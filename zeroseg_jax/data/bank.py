"""The bank: for each image its training square and the teacher's features of its views.

BANK/shard-NNNNN.arrayrecord holds the records of SHARD_IMAGES consecutive images of the source, in
order and without unreadable ones. BANK/shard-NNNNN.json counts them, lists what was skipped, and
has the size and sha256 of the shard. Shards are written atomically, and a restart writes only the
missing ones. BANK/settings.json identifies an unfinished bank, BANK/manifest.json completes it.

A bank is checked when it is opened: the sha256 of each shard is compared with the manifest's.
BANK/.checked.json remembers size and time of each good shard, so that it is read once and not at
every start. Banks without sums are older; they are opened with a note.

BANK/regions/ (CLIP-ZSS) is a bank of its own with the same shards, record for record: fused label
maps and the teacher's features of their regions. BANK/dense/ (loss.dense) is another, with a
target for each patch of the student. Both are read with the images by data/joined_banks.py.
Layout of the records: data/records.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import files, mirrors
from zeroseg_jax.data.bank_checks import (
    check_digests,
    count_records,
    digest_file,
    find_wrong,
    render_remedy,
)
from zeroseg_jax.data.records import BankError, check_finite, decode_record

FORMAT = 1
SHARD_IMAGES = 512
REGIONS_FOLDER, DENSE_FOLDER = "regions", "dense"
PREPARE_AGAIN = "prepare it again"


def bank_directory(config: Config, workdir: str | Path) -> Path:
    """Return the directory of a run's bank: data.bank or WORKDIR/bank, or its mirror."""
    return mirrors.localise(config.data.bank or Path(workdir) / "bank")


def begin_bank(directory: Path, settings: dict[str, Any]) -> None:
    """Start a bank: make its directory and write its settings, or compare those in it.

    Args:
      directory: directory of the bank.
      settings: settings that identify it, as JSON.

    Raises:
      BankError: the directory holds a bank of other settings; names the first that differs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files.remove_stale(directory)
    path = directory / "settings.json"
    if not path.is_file():
        files.write_json(path, settings, fsync=True)
        return
    for name, value in files.read_json(path, remedy="delete it or use another directory").items():
        if settings.get(name) != value:
            raise BankError(
                f"{directory}: begun with {name} = {value!r}, but now it is "
                f"{settings.get(name)!r}; use the same settings or another directory."
            )


def has_shard(directory: Path, shard: int) -> bool:
    """Return whether a shard is complete: there, and of the size that its summary has."""
    path = _shard_path(directory, shard)
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        # Summaries of older banks have no size.
        wanted = read_summary(directory, shard).get("bytes", path.stat().st_size)
    except (OSError, ValueError):
        return False
    return wanted == path.stat().st_size


def verify_shards(directory: Path, shards: Sequence[int]) -> list[int]:
    """Return the numbers of complete shards whose content is not what was written.

    Every shard is read, once: a good one of the size and time of an earlier comparison is not
    read again. Shards of older banks have no sum and count as good.

    Args:
      directory: directory of the bank.
      shards: numbers of complete shards.
    """
    sums = {_shard_path(directory, i): read_summary(directory, i).get("sha256") for i in shards}
    known = {path: digest for path, digest in sums.items() if digest}
    wrong = find_wrong(directory, known)
    return [i for i in shards if _shard_path(directory, i) in wrong]


def remove_shard(directory: Path, shard: int) -> None:
    """Remove a shard, so that it is written again; nothing happens where there is none."""
    mirrors.remove(_shard_path(directory, shard))


def write_shard(
    directory: Path,
    shard: int,
    records: list[bytes],
    skipped: list[dict[str, str]],
    file_sizes: str = "",
) -> None:
    """Write a shard and its summary atomically.

    Args:
      directory: directory of the bank.
      shard: number of the shard.
      records: its records, in order.
      skipped: "index" and "reason" of each image that was left out.
      file_sizes: digest of the sizes of its images' files, from sources.digest_sizes.

    Raises:
      OSError: the disk is full or cannot be written; nothing is left of the shard.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    path = _shard_path(directory, shard)
    with files.atomic_path(path, fsync=True) as temporary:
        # group_size 1: records are read alone, in random order. Pixels and float16 values hardly
        # compress.
        try:
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for record in records:
                writer.write(record)
            writer.close()
        except RuntimeError as error:  # array_record's only kind, a full disk included
            full = os.strerror(errno.ENOSPC) in str(error)
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, str(error).partition(";")[0]) from error
        # The summary comes first: a shard counts as complete once its records are there.
        summary = {
            "records": len(records),
            "skipped": skipped,
            "file_sizes": file_sizes,
            "bytes": temporary.stat().st_size,
            "sha256": digest_file(temporary),
        }
        files.write_json(path.with_suffix(".json"), summary, fsync=True)


def read_summary(directory: Path, shard: int) -> dict[str, Any]:
    """Read the summary of a complete shard: "records", their number, and "skipped".

    Raises:
      OSError, ValueError: the summary is missing or damaged.
    """
    path = _shard_path(directory, shard)
    return files.read_json(
        path.with_suffix(".json"),
        remedy=f"delete {path} and prepare again",
        fields={"records": int, "skipped": list},
    )


def finish_bank(directory: Path, shards: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest of a bank whose shards are all complete.

    Args:
      directory: directory of the bank.
      shards: number of shards.
      settings: settings that identify the bank.

    Returns:
      The manifest: the settings, "format", "shards", "records", "skipped", "bytes", "sha256".
    """
    summaries = [read_summary(directory, i) for i in range(shards)]
    manifest = {
        "format": FORMAT,
        **settings,
        "shards": shards,
        "records": sum(summary["records"] for summary in summaries),
        "skipped": [entry for summary in summaries for entry in summary["skipped"]],
        "bytes": sum(_shard_path(directory, i).stat().st_size for i in range(shards)),
        # Shards of an older version have no sum yet.
        "sha256": [
            summary.get("sha256") or digest_file(_shard_path(directory, i))
            for i, summary in enumerate(summaries)
        ],
    }
    files.write_json(directory / "manifest.json", manifest, fsync=True)
    return manifest


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read the manifest of a finished bank.

    Raises:
      BankError: the bank is missing, unfinished or of another format.
      ValueError: the manifest is damaged.
    """
    path = Path(directory) / "manifest.json"
    if not path.is_file():
        raise BankError(
            f"{directory}: no finished bank there; run `zeroseg prepare` with the "
            "same --config and --workdir first."
        )
    manifest = files.read_json(
        path, remedy=PREPARE_AGAIN, fields={"format": int, "shards": int, "records": int}
    )
    if manifest.get("format") != FORMAT:
        raise BankError(f"{path}: format {manifest.get('format')}, not {FORMAT}; {PREPARE_AGAIN}.")
    return manifest


def check_manifest(manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare a bank's manifest with the settings that training needs.

    Args:
      manifest: manifest of the bank.
      wanted: needed values by name; a dict is compared key by key.

    Raises:
      BankError: a value differs; names the first and both values.
    """
    for name, value in wanted.items():
        found = manifest.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            check_manifest(
                {f"{name}.{key}": part for key, part in found.items()},
                {f"{name}.{key}": part for key, part in value.items()},
            )
        elif found != value:
            raise BankError(
                f"bank: {name} is {found!r} there but {value!r} in the config; "
                "prepare again or set the config to the bank's value."
            )


class BankSource:
    """Random access to the records of a finished bank, whose shards are checked.

    Args:
      directory: directory of the bank.
      decode: function from the bytes of a record to its dict.

    Attributes:
      manifest: manifest of the bank.
      notes: sentences about an older bank, whose shards cannot be checked.

    Raises:
      BankError: the bank is unfinished, or a shard is missing, damaged or of another bank; names
        the shard.
    """

    def __init__(
        self,
        directory: str | Path,
        decode: Callable[[bytes], dict[str, Any]] = decode_record,
    ):
        import grain

        self._decode = decode
        self.manifest = read_manifest(directory)
        self.notes: list[str] = []
        self._paths = [_shard_path(Path(directory), i) for i in range(self.manifest["shards"])]
        for path in self._paths:
            if not path.is_file() or not path.stat().st_size:
                raise BankError(f"{path}: missing or empty; {render_remedy(path)}.")
        if "sha256" in self.manifest:
            check_digests(Path(directory), self._paths, self.manifest)
        else:
            self.notes.append(
                f"{directory}: made before banks had sums, so a foreign shard is not noticed; "
                "`zeroseg prepare` adds them."
            )
        self._ends = np.cumsum([count_records(path) for path in self._paths])
        self._records = grain.sources.ArrayRecordDataSource([str(path) for path in self._paths])
        if len(self._records) != self.manifest["records"]:
            raise BankError(
                f"{directory}: {len(self._records)} records, but its manifest has "
                f"{self.manifest['records']}; {PREPARE_AGAIN}."
            )
        if self.notes:
            self._check_order()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            record = self._decode(self._records[index])
            for field in {"features", "local", "dense"} & record.keys():
                owner = record.get("name", "dense targets" if field == "dense" else "regions")
                check_finite(record[field], f"record {index}, {owner}")
            return record
        except (RuntimeError, ValueError) as error:  # of array_record, of the decoder
            path = self._paths[int(np.searchsorted(self._ends, index, side="right"))]
            reason = str(error).partition(";")[0].partition("\n")[0]
            raise BankError(f"{path}: damaged ({reason}); {render_remedy(path)}.") from error

    def _check_order(self) -> None:
        """Compare the indices of the first and last records of the shards: they rise."""
        before = -1
        for path, first, end in zip(self._paths, [0, *self._ends[:-1]], self._ends, strict=True):
            for place in (int(first), int(end) - 1) if end > first else ():
                index = self[place].get("index", place)
                if index < before:
                    raise BankError(
                        f"{path}: record {index} follows record {before}, so it is the shard of "
                        f"another place or bank; {render_remedy(path)}."
                    )
                before = index


def _shard_path(directory: Path, shard: int) -> Path:
    return directory / f"shard-{shard:05d}.arrayrecord"
