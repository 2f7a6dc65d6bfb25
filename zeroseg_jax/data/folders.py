"""Listing of files below a folder: links followed, hidden and system files left out and counted."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# Folders that macOS archives and Synology disks add beside the user's files.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")
# Suffixes of images that are not read; the notes count them.
_UNREAD = (".heic", ".heif", ".svg", ".psd", ".raw", ".cr2", ".nef", ".dng", ".jxl", ".eps")


@dataclasses.dataclass(frozen=True)
class Found:
    """Files below a folder.

    Attributes:
      paths: files, sorted by path.
      notes: sentences about files that were left out, by reason.
    """

    paths: list[Path]
    notes: list[str]


def find_files(root: Path, suffixes: Iterable[str]) -> Found:
    """Find files below a folder, in linked folders too.

    Hidden files and folders (".name") and those of the system (__MACOSX, @eaDir) are left out.
    A linked folder that contains itself is entered once.

    Args:
      root: folder to search.
      suffixes: suffixes of the files, in lower case.
    """
    suffixes = tuple(suffixes)
    paths: list[Path] = []
    closed: list[OSError] = []
    hidden = 0
    unread: collections.Counter[str] = collections.Counter()
    for path, out_of_sight in _walk(root, closed):
        suffix = path.suffix.lower()
        if suffix not in (*suffixes, *_UNREAD) or not path.is_file():
            continue
        if out_of_sight:
            hidden += suffix in suffixes
        elif suffix in suffixes:
            paths.append(path)
        else:
            unread[suffix] += 1
    notes = [f"{error.filename}: not entered ({error.strerror})." for error in closed]
    if hidden:
        notes.append(f"{root}: {hidden} hidden files were left out (names or folders with a dot).")
    if unread:
        endings = ", ".join(sorted(unread))
        notes.append(f"{root}: {sum(unread.values())} files were left out, unread ({endings}).")
    return Found(sorted(paths), notes)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or the system's."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _walk(root: Path, closed: list[OSError]) -> Iterator[tuple[Path, bool]]:
    """Yield files and whether they, or a folder of theirs below `root`, are hidden."""
    # Folders on the way to each folder, by device and inode: a link to one of them is a circle.
    above = {os.fspath(root): frozenset({_identify(root)})}
    hidden = {os.fspath(root): False}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=closed.append):
        entered = []
        for name in folders:
            path = os.path.join(folder, name)
            identity = _identify(Path(path))
            if identity in above[folder]:
                continue
            above[path] = above[folder] | {identity}
            hidden[path] = hidden[folder] or is_hidden(name)
            entered.append(name)
        folders[:] = entered
        for name in names:
            yield Path(folder, name), hidden[folder] or is_hidden(name)


def _identify(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
