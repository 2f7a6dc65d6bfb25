"""Unpacking of data sets' archives, member by member, without trust in what they say."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

_CHUNK = 1 << 20
_MAX_NAME = 240  # of one part of a path; disks stop at 255 bytes
_LOG_SECONDS = 5.0
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
)


class ArchiveError(ValueError):
    """An archive that is damaged, or that no data set publishes like this."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Attributes:
      gigabytes: of all files together, 1e9 bytes each.
      files: how many.
    """

    gigabytes: float
    files: int


# About twice what the published archives hold.
LIMITS = {
    "voc21": Limits(5, 100_000),
    "voc20": Limits(5, 100_000),
    "context60": Limits(5, 100_000),
    "context59": Limits(5, 100_000),
    "coco_object": Limits(10, 250_000),
    "coco_stuff171": Limits(10, 250_000),
    "ade150": Limits(5, 100_000),
    "cityscapes19": Limits(30, 100_000),
    "imagenet_s": Limits(20, 250_000),
    "imagenet_s300": Limits(20, 250_000),
    "imagenet_s50": Limits(20, 250_000),
    "folder": Limits(20, 250_000),
}


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, target: Path, limits: Limits, log: Callable[[str], None] = print) -> int:
    """Unpack the plain files of a tar (plain, gzip, bzip2, xz) or zip archive.

    Files appear whole, by rename; run again after an interruption, it goes on with those that
    are not there yet. Permissions, owners and times of the archive are not taken over.

    Args:
      archive: a file.
      target: directory, made where it is missing.
      limits: of what may come out.
      log: takes progress lines.

    Returns:
      How many files were written.

    Raises:
      ArchiveError: not an archive, damaged, over the limits, or with a link, a device, a path
        that leaves the target, a name twice, or a file that is there with another size.
    """
    if not archive.is_file():
        raise ArchiveError(f"{archive}: there is no such file.")
    target.mkdir(parents=True, exist_ok=True)
    seen: set[PurePosixPath] = set()
    written, unpacked, last = 0, 0, time.time()
    try:
        for member in _members(archive):
            path = _check_path(member.name, archive)
            if path in seen:
                raise ArchiveError(f"{archive}: holds {member.name} twice; get it again.")
            seen.add(path)
            unpacked += member.size
            _check_limits(archive, len(seen), unpacked, limits)
            written += _write(member, target / path, archive)
            if time.time() - last > _LOG_SECONDS:
                last = time.time()
                log(f"unpack: {len(seen)} files, {unpacked / 1e9:.2f} GB")
    except _DAMAGE as error:
        raise ArchiveError(f"{archive}: damaged or cut off ({error}); get it again.") from error
    log(f"unpack: {written} files written, {len(seen) - written} were there, in {target}")
    return written


def _members(archive: Path) -> Iterator[_Member]:
    # In this order: a tar whose last file is a zip would pass for a zip.
    if tarfile.is_tarfile(archive):
        return _tar_members(archive)
    if zipfile.is_zipfile(archive):
        return _zip_members(archive)
    raise ArchiveError(f"{archive}: neither a tar nor a zip archive; get it again.")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for info in tar:
            if info.isdir():
                _check_path(info.name, archive)
            elif info.isreg():
                yield _Member(info.name, info.size, lambda info=info: tar.extractfile(info))
            else:
                kind = "a link" if info.issym() or info.islnk() else "no plain file"
                raise ArchiveError(
                    f"{archive}: {info.name} is {kind}; data sets hold none, so it is not unpacked."
                )
            tar.members = []  # tarfile keeps every header it has read
        # tarfile takes a cut between two files for the end; a whole archive closes with zeros.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ArchiveError(f"{archive}: cut off or damaged between two files; get it again.")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            kind = (info.external_attr >> 16) & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                what = "a link" if kind == 0o120000 else "no plain file"
                raise ArchiveError(
                    f"{archive}: {info.filename} is {what}; data sets hold none, so it is "
                    "not unpacked."
                )
            if info.flag_bits & 1:
                raise ArchiveError(f"{archive}: {info.filename} is encrypted; data sets are not.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ArchiveError(
                    f"{archive}: {info.filename} is packed by method {info.compress_type}; "
                    "only stored and deflated files are read."
                )
            if info.is_dir():
                _check_path(info.filename, archive)
            else:
                yield _Member(info.filename, info.file_size, lambda info=info: file.open(info))


def _check_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name
    if outside or "\0" in name:
        raise ArchiveError(
            f"{archive}: {name!r} would be written outside of the target; not unpacked."
        )
    if any(len(part.encode()) > _MAX_NAME for part in path.parts):
        raise ArchiveError(f"{archive}: {name[:60]!r}... is a name of over {_MAX_NAME} bytes.")
    return path


def _check_limits(archive: Path, files: int, size: int, limits: Limits) -> None:
    if files > limits.files:
        raise ArchiveError(
            f"{archive}: holds more than {limits.files} files; is it the right archive? "
            "--max_files raises the limit."
        )
    if size > limits.gigabytes * 1e9:
        raise ArchiveError(
            f"{archive}: unpacks to more than {limits.gigabytes:g} GB; is it the right archive? "
            "--max_gb raises the limit."
        )


def _write(member: _Member, path: Path, archive: Path) -> bool:
    """Write one file unless it is there; return whether it was written."""
    if path.exists():
        if path.is_file() and path.stat().st_size == member.size:
            return False
        raise ArchiveError(
            f"{path}: is there already, but not as {archive.name} holds it "
            f"({member.size} bytes); move it away or unpack elsewhere."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with member.open() as source, open(part, "wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        if part.stat().st_size != member.size:
            raise ArchiveError(f"{archive}: {member.name} is cut off; get it again.")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return True
