"""Local mirrors of gs:// folders: download before reading, upload as each file is written.

gs://BUCKET/NAME has its mirror at CACHE/gs/BUCKET/NAME, with CACHE = $XDG_CACHE_HOME/zeroseg_jax or
~/.cache/zeroseg_jax. Code works on the mirror as on any folder. data/files.py uploads each file
before it appears in the mirror, so whatever is complete in the mirror is in the bucket. A mirror
is not locked against other machines: one writer at a time is the caller's duty.

A file is not downloaded again while its size and time are those of the object, as with rsync.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import fnmatch
import functools
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r"gs:/+(?=[^/])")  # pathlib shortens the "//" of an address to "/"
_THREADS = 8


def is_address(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is gs://BUCKET/NAME, also as a Path, which has one slash less."""
    return bool(_ADDRESS.match(os.fspath(path)))


def localise(path: str | os.PathLike[str]) -> Path:
    """Return the mirror of an address; a local path unchanged.

    Raises:
      ValueError: an address without a name below its bucket, or with ".." in it.
    """
    text = os.fspath(path)
    found = _ADDRESS.match(text)
    if not found:
        return Path(text)
    parts = text[found.end() :].strip("/").split("/")
    if len(parts) < 2 or {"", ".", ".."} & set(parts):
        raise ValueError(f"{text}: not an address of a folder; write gs://BUCKET/NAME.")
    return _root().joinpath(*parts)


def local_path(path: str, flag: str) -> Path:
    """Return the value of a flag that takes no address as a path.

    Raises:
      ValueError: it is an address.
    """
    if is_address(path):
        raise ValueError(f"{flag}: {path} is an address; give a local folder, then copy it there.")
    return Path(path)


def find_address(path: Path) -> str:
    """Return the address of a file or folder of a mirror, "" for any other path."""
    root = _root()
    below = Path(os.path.abspath(path))
    return f"gs://{below.relative_to(root).as_posix()}" if root in below.parents else ""


def pull(folder: Path, names: Sequence[str] | None = None, *, skip: Sequence[str] = ()) -> None:
    """Make files of a mirror equal to the bucket's; nothing happens for any other folder.

    Files that the bucket lacks are removed, except hidden ones.

    Args:
      folder: folder of a mirror; made if missing.
      names: files directly below it; None for all files, also of folders below.
      skip: patterns of fnmatch for names relative to the folder, whose files are left out.

    Raises:
      OSError: the bucket cannot be read, or the disk is full.
    """
    address = find_address(folder)
    if not address:
        return
    folder.mkdir(parents=True, exist_ok=True)
    # Local files first: what is uploaded after this list is made cannot look like a removed one.
    here = [folder / name for name in names] if names is not None else list(folder.rglob("*"))
    there = _list_objects(address)
    wanted = {
        folder / name: found
        for name, found in there.items()
        if (names is None or name in names) and not _matches(name, skip)
    }
    for path in here:
        # Locks and temporary files are never uploaded.
        left_out = path.name.startswith(".") or path.suffix == ".part"
        left_out |= _matches(path.relative_to(folder).as_posix(), skip)
        if path.is_file() and path not in wanted and not left_out:
            path.unlink(missing_ok=True)
    todo = [path for path, found in wanted.items() if not _is_current(path, found)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda path: _download(path, wanted[path]), todo))


def push(source: Path, target: Path) -> None:
    """Upload a file of `target`'s mirror; nothing happens if `target` is in no mirror.

    Args:
      source: finished file; gets the time of the object.
      target: path in the mirror.

    Raises:
      OSError: the bucket cannot be written.
    """
    if not (address := find_address(target)):
        return
    store = _open_store()
    with _explain(address):
        store.put_file(str(source), address)
        _set_time(source, store.info(address))


def push_tree(folder: Path) -> None:
    """Upload all files below a folder of a mirror that differ from the bucket's.

    Raises:
      OSError: the bucket cannot be written.
    """
    address = find_address(folder)
    if not address or not folder.is_dir():
        return
    there = _list_objects(address)
    for path in folder.rglob("*"):
        found = there.get(path.relative_to(folder).as_posix())
        if path.is_file() and not (found and _is_current(path, found)):
            push(path, path)


def remove(path: Path) -> None:
    """Remove a file, and its object if it is in a mirror; nothing happens where there is none.

    Raises:
      OSError: it cannot be removed.
    """
    if address := find_address(path):
        store = _open_store()
        with _explain(address), contextlib.suppress(FileNotFoundError):
            store.rm_file(address)
    path.unlink(missing_ok=True)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _root() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.path.abspath(cache)) / "zeroseg_jax" / "gs"


@functools.cache
def _open_store() -> Any:
    try:
        import gcsfs
    except ImportError as error:
        raise OSError(f'gs://: {error.name} is missing; pip install "zeroseg_jax[gcs]".') from error
    # Other hosts write too, so that listings are not cached.
    return gcsfs.GCSFileSystem(use_listings_cache=False, consistency="size")


def _list_objects(address: str) -> dict[str, dict[str, Any]]:
    """Return the objects below an address, by their name relative to it."""
    store = _open_store()
    with _explain(address):
        found = store.find(address, detail=True)
    start = len(address.removeprefix("gs://")) + 1
    return {name[start:]: entry for name, entry in found.items() if not name.endswith("/")}


def _download(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with _explain(f"gs://{entry['name']}"):
            _open_store().get_file(entry["name"], str(temporary))
        _set_time(temporary, entry)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_current(path: Path, entry: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    found = path.stat()
    return found.st_size == int(entry["size"]) and found.st_mtime_ns == _read_time(entry)


def _set_time(path: Path, entry: dict[str, Any]) -> None:
    nanoseconds = _read_time(entry)
    os.utime(path, ns=(nanoseconds, nanoseconds))


def _read_time(entry: dict[str, Any]) -> int:
    """Return the time of an object's last change in nanoseconds, exact to the microsecond."""
    moment = datetime.datetime.fromisoformat(entry["updated"])
    since = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return (since // datetime.timedelta(microseconds=1)) * 1000


@contextlib.contextmanager
def _explain(address: str) -> Iterator[None]:
    """Raise one sentence, without an errno, for errors of the store and of the network."""
    import aiohttp
    import gcsfs.retry

    try:
        yield
    except (
        OSError,
        aiohttp.ClientError,
        gcsfs.retry.HttpError,
        gcsfs.retry.google.auth.exceptions.GoogleAuthError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise OSError(
            f"{address}: the bucket cannot be used ({reason}); check its name, the network and "
            "`gcloud auth application-default login`."
        ) from error
