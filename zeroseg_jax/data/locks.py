"""Locks of directories: one writer at a time, released by the system when its process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

# File systems without locks, for example some network mounts.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EROFS)


class LockedError(ValueError):
    """A directory that another process writes; the message names the process and its host."""


@contextlib.contextmanager
def lock_directory(directory: Path, task: str, *, name: str = ".lock") -> Iterator[None]:
    """Hold the lock of a directory, DIRECTORY/.lock, which names the process and its host.

    The lock ends with its process, however that ends: a file that is left behind locks nothing.
    On a file system without locks nothing is locked.

    Args:
      directory: directory to write; made if missing.
      task: verb of the message, for example "trains".
      name: name of the lock file; processes that may write at the same time have different ones.

    Raises:
      LockedError: another process holds the lock.
      OSError: the directory cannot be written.
    """
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path)
    except BlockingIOError:
        raise LockedError(
            f"{directory}: {_read_owner(path)} {task} there; wait for it, stop it, or use another "
            "directory."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(
                f"{path}: cannot be written ({error.strerror}); name another directory."
            ) from error
        yield
        return
    try:
        owner = {"pid": os.getpid(), "host": socket.gethostname()}
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Open and lock a file; BlockingIOError if another process holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The owner before may have removed the file after it was opened here.
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _read_owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes())
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"  # it has not written its name yet
