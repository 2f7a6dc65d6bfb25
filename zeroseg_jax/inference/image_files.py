"""What people point at: files, folders, globs and videos, as pictures one after the other."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from zeroseg_jax.data.sources import SUFFIXES
from zeroseg_jax.data.transforms import MAX_PIXELS, ImageError, read_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


@dataclasses.dataclass(frozen=True)
class Found:
    """A picture, or why there is none.

    Attributes:
      source: what to call it.
      stem: of the files to write, different for each.
      image: uint8 (H, W, 3), or the error.
    """

    source: str
    stem: str
    image: np.ndarray | ImageError


def list_files(arguments: Sequence[str], leave_out: Path | None = None) -> list[Path]:
    """List the files that arguments mean, each once: folders and globs in order of path.

    Args:
      arguments: files, folders (searched below) or globs.
      leave_out: a folder whose files are not taken, where results are written.

    Raises:
      ValueError: a folder or a glob in which there is no picture.
    """
    known = (*SUFFIXES, *VIDEO_SUFFIXES)
    files: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
        elif not path.exists() and glob.has_magic(argument):
            below = sorted(Path(p) for p in glob.glob(argument, recursive=True))
        else:
            files[path] = None
            continue
        if leave_out is not None:
            below = [p for p in below if leave_out.resolve() not in p.resolve().parents]
        if not below:
            raise ValueError(f"{argument}: no picture or video there ({', '.join(known)}).")
        files |= dict.fromkeys(below)
    return list(files)


def read_pictures(files: Sequence[Path], *, every_seconds: float = 1.0) -> Iterator[Found]:
    """Read the pictures of files, and frames of videos.

    Args:
      files: from list_files.
      every_seconds: of a video, one frame in so much time; 0: every frame.

    Yields:
      Found, with the error in place of what cannot be read.
    """
    taken: set[str] = set()
    for path in files:
        stem = _free_stem(path.stem, taken)
        try:
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                yield Found(str(path), stem, read_image(path))
                continue
            for seconds, frame in read_frames(path, every_seconds=every_seconds):
                name = f"{path} at {seconds:.2f} s"
                yield Found(name, f"{stem}_{round(seconds * 1000):08d}ms", frame)
        except ImageError as error:
            yield Found(str(path), stem, error)


def read_frames(path: Path, *, every_seconds: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """Decode a video with PyAV, the optional extra `video`.

    Yields:
      The time in seconds and the frame, uint8 (H, W, 3), turned as the camera says.

    Raises:
      ImageError: not a video that can be read, no picture in it, or too large frames.
      ValueError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f'{path}: videos need the extra "video"; pip install "zeroseg_jax[video]".'
        ) from error
    if not path.is_file() or not path.stat().st_size:
        raise ImageError(f"{path}: no such file, or an empty one.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path}: there is no picture in this video.")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: frames of {stream.width} x {stream.height} px are more than the "
                    f"limit of {MAX_PIXELS} pixels."
                )
            due = 0.0
            for frame in container.decode(stream):
                seconds = frame.time or 0.0
                if seconds + 1e-6 >= due:
                    due = (due if every_seconds else seconds) + every_seconds
                    turns = round(frame.rotation / 90)
                    yield (
                        seconds,
                        np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns)),
                    )
    except av.FFmpegError as error:
        raise ImageError(f"{path}: not a video that can be read ({error.strerror}).") from error


def _free_stem(stem: str, taken: set[str]) -> str:
    """Two files of one name from two folders must not overwrite each other."""
    number, free = 1, stem
    while free in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free)
    return free
