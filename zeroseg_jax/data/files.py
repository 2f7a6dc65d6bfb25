"""Atomic writes of bytes, text, JSON, PNG and NumPy files, on disk or at gs://; reading of JSON.

Atomic: the content goes to a temporary file beside the target, which then replaces the target.
A reader finds the old file or the new one, never a part. Temporary names are random, so two
writers of one file do not collide: the last one wins. A file in a mirror (data/mirrors.py) is
uploaded before it appears.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zeroseg_jax.data import mirrors

PathLike = str | os.PathLike[str]

_SUFFIX = ".part"
_STALE_SECONDS = 3600.0
# pathlib shortens the "//" of an address to "/".
_ADDRESS = re.compile(r"(gs|s3):/+(?=[^/])")
_ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "make the folder writable",
}


@contextlib.contextmanager
def atomic_path(path: PathLike, *, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` when the block ends without error.

    Args:
      path: target, a local path or gs://BUCKET/NAME; missing folders are made.
      fsync: flush to the disk before the replacement. Without it the file survives a killed
        process, but maybe not a power cut. A flush takes milliseconds on a local disk.

    Raises:
      OSError: the target cannot be written; the temporary file is removed. An OSError without an
        errno that the block raises passes unchanged.
    """
    address = _ADDRESS.match(os.fspath(path))
    try:
        if address:
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder) / Path(path).name
                yield temporary
                _upload(temporary, _ADDRESS.sub(r"\1://", os.fspath(path)))
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(uuid.uuid4().hex + _SUFFIX)
        try:
            yield temporary
            if fsync:
                _flush(temporary)
            mirrors.push(temporary, target)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if fsync:
            _flush(target.parent)  # the new name
    except OSError as error:
        if error.errno is None:  # not of the file system: a failed download, for example
            raise
        advice = _ADVICE.get(error.errno)
        raise OSError(
            f"{path}: cannot write to {Path(path).parent} ({error.strerror}); "
            f"{f'{advice} or ' if advice else ''}name another folder."
        ) from error


def write_bytes(path: PathLike, content: bytes, *, fsync: bool = False) -> None:
    """Write bytes atomically; see atomic_path."""
    with atomic_path(path, fsync=fsync) as temporary:
        temporary.write_bytes(content)


def write_text(path: PathLike, text: str, *, fsync: bool = False) -> None:
    """Write text as UTF-8 atomically; see atomic_path.

    Bytes of file names that are no UTF-8 are written as escapes.
    """
    write_bytes(path, text.encode(errors="backslashreplace"), fsync=fsync)


def write_json(path: PathLike, content: Any, *, fsync: bool = False) -> None:
    """Write JSON, indented by one space, atomically; see atomic_path."""
    write_text(path, json.dumps(content, indent=1) + "\n", fsync=fsync)


def write_png(
    path: PathLike,
    image: Image.Image | np.ndarray,
    text: Mapping[str, str] | None = None,
    *,
    compress_level: int = 6,
) -> None:
    """Write a Pillow image, or uint8 (H, W) or (H, W, 3), as PNG atomically; see atomic_path.

    Args:
      path: target.
      image: the image.
      text: text chunks of the file by keyword.
      compress_level: zlib's level, 0 (fast) to 9 (small).
    """
    pixels = image if isinstance(image, Image.Image) else Image.fromarray(image)
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    with atomic_path(path) as temporary:
        pixels.save(temporary, format="PNG", pnginfo=chunks, compress_level=compress_level)


def write_npz(path: PathLike, /, *, compressed: bool = False, **arrays: np.ndarray) -> None:
    """Write named arrays as an .npz file atomically; see atomic_path."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if compressed:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        else:
            np.savez(file, allow_pickle=False, **arrays)


def read_json(
    path: PathLike,
    *,
    remedy: str = "write it again",
    fields: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
      path: local file, UTF-8.
      remedy: end of every error message, an instruction.
      fields: required keys and the types of their values.

    Raises:
      FileNotFoundError: no such file.
      OSError: the file cannot be read.
      ValueError: the file is empty, damaged, holds something other than an object, or a required
        field is missing or of another type.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: missing; {remedy}.") from error
    except OSError as error:
        raise OSError(f"{path}: unreadable ({error.strerror or error}); {remedy}.") from error
    if not content.strip():
        raise ValueError(f"{path}: the file is empty; {remedy}.")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); {remedy}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a JSON {type(found).__name__}, not an object; {remedy}.")
    for name, kind in (fields or {}).items():
        value = found.get(name)
        # JSON's true is no number, but Python's is.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            held = type(value).__name__ if name in found else "missing"
            raise ValueError(f"{path}: {name} is {held}, not {kind.__name__}; {remedy}.")
    return found


def remove_stale(directory: PathLike) -> None:
    """Remove temporary files that a killed process left in a folder more than an hour ago."""
    for path in Path(directory).glob("*" + _SUFFIX):
        with contextlib.suppress(FileNotFoundError):  # another host removes it too
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upload(source: Path, address: str) -> None:
    # Imported late: it takes 0.6 s. A store shows an object when its upload is complete: atomic.
    from etils import epath

    try:
        epath.Path(address).write_bytes(source.read_bytes())
    except ImportError as error:
        raise OSError(errno.ENOTSUP, f"{error}; or mount the bucket as a folder") from error
