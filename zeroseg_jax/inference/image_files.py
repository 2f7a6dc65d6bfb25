"""Read input images from files, folders, globs, videos, https addresses and standard input."""

from __future__ import annotations

import dataclasses
import glob
import http.client
import io
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zeroseg_jax.data.folders import find_files
from zeroseg_jax.data.transforms import (
    MAX_PIXELS,
    SUFFIXES,
    ImageError,
    decode_image,
    read_image,
)

STDIN = "-"
_MAX_STEM_BYTES = 200
_MAX_FETCHED = 50_000_000  # bytes of an image from an address or standard input
_TIMEOUT_SECONDS = 30
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


@dataclasses.dataclass(frozen=True)
class InputImage:
    """An input image, or the error that prevented reading it.

    Attributes:
      source: name for messages and results.
      stem: stem of the files to write, different for each image.
      image: uint8 (H, W, 3), or the error.
    """

    source: str
    stem: str
    image: np.ndarray | ImageError


def list_files(
    arguments: Sequence[str],
    exclude: Path | None = None,
    log: Callable[[str], None] = print,
) -> list[Path | str]:
    """List the files of the arguments, each once; folders and globs in order of path.

    Linked folders are entered. Hidden files below a folder are left out. Addresses and "-" are
    returned as they are.

    Args:
      arguments: files, folders (searched recursively), globs, https addresses, or "-".
      exclude: folder whose files are skipped, for example that of the results.
      log: receiver of one line for each kind of file that was left out.

    Raises:
      ValueError: a folder or a glob without an image or video, or an address that is not https.
    """
    known = (*SUFFIXES, *VIDEO_SUFFIXES)
    files: dict[Path | str, None] = {}
    for argument in arguments:
        path = Path(argument)
        if "://" in argument:
            if not argument.startswith("https://"):
                raise ValueError(f"{argument}: only https addresses are fetched; save the image.")
            files[argument] = None
            continue
        if argument == STDIN:
            files[STDIN] = None
            continue
        if path.is_dir():
            found = find_files(path, known)
            below = found.paths
            for note in found.notes:
                log(f"segment: {note}")
        elif not path.exists() and glob.has_magic(argument):
            below = sorted(Path(p) for p in glob.glob(argument, recursive=True))
        else:
            files[path] = None
            continue
        if exclude is not None:
            below = [p for p in below if exclude.resolve() not in p.resolve().parents]
        if not below:
            raise ValueError(f"{argument}: holds no image or video ({', '.join(known)}).")
        files |= dict.fromkeys(below)
    return list(files)


def read_images(files: Sequence[Path | str], *, every_seconds: float = 1.0) -> Iterator[InputImage]:
    """Read image files, frames of videos, addresses and standard input.

    Args:
      files: from list_files.
      every_seconds: seconds between frames of a video; 0: every frame.

    Yields:
      InputImage, with the error in place of an unreadable image.
    """
    taken: set[str] = set()
    for path in files:
        if isinstance(path, str):
            yield _read_stream(path, taken)
            continue
        stem = _free_stem(path.stem, taken)
        try:
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                yield InputImage(str(path), stem, read_image(path))
                continue
            for seconds, frame in read_frames(path, every_seconds=every_seconds):
                name = f"{path} at {seconds:.2f} s"
                yield InputImage(name, f"{stem}_{round(seconds * 1000):08d}ms", frame)
        except ImageError as error:
            yield InputImage(str(path), stem, error)


def read_groups(
    files: Sequence[Path | str], size: int, on_error: Callable[[ImageError], None] | None = None
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Read images in groups.

    Args:
      files: from list_files.
      size: number of images of a group, at least 1.
      on_error: receiver of the error of each unreadable image; None raises it.

    Yields:
      Sources and images, uint8 (H, W, 3), of each group.
    """
    names: list[str] = []
    images: list[np.ndarray] = []
    for found in read_images(files):
        if isinstance(found.image, ImageError):
            if on_error is None:
                raise found.image
            on_error(found.image)
            continue
        names.append(found.source)
        images.append(found.image)
        if len(images) == size:
            yield names, images
            names, images = [], []
    if images:
        yield names, images


def _read_stream(source: str, taken: set[str]) -> InputImage:
    """Read the image of an address or of standard input."""
    if source == STDIN:
        name, stem = "standard input", _free_stem("stdin", taken)
    else:
        name = source
        path = urllib.parse.unquote(urllib.parse.urlsplit(source).path)
        stem = _free_stem(Path(path).stem or "image", taken)
    try:
        content = _read_limited(sys.stdin.buffer, name) if source == STDIN else fetch(source)
        return InputImage(name, stem, decode_image(io.BytesIO(content), name))
    except ImageError as error:
        return InputImage(name, stem, error)


def fetch(address: str) -> bytes:
    """Fetch an https address; redirections to other schemes are refused.

    Raises:
      ImageError: no answer, an error of the server, or more than 50 MB.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "zeroseg_jax"})
    opener = urllib.request.build_opener(_HttpsRedirects)
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            return _read_limited(answer, address)
    except urllib.error.HTTPError as error:
        raise ImageError(
            f"{address}: the server answers {error.code} ({error.reason}); check the address."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "reason", None) or error
        raise ImageError(f"{address}: cannot be fetched ({reason}); save the image.") from error


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Redirections to https alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise ImageError(
                f"{req.full_url}: is redirected to an address that is not https; save the image."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read_limited(stream: BinaryIO, name: str) -> bytes:
    content = stream.read(_MAX_FETCHED + 1)
    if len(content) > _MAX_FETCHED:
        raise ImageError(
            f"{name}: has more than {_MAX_FETCHED // 1_000_000} MB; save the image and shrink it."
        )
    if not content:
        raise ImageError(f"{name}: is empty; give the bytes of an image.")
    return content


def read_frames(path: Path, *, every_seconds: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """Decode a video with PyAV, the optional extra `video`.

    Yields:
      Time in seconds and the frame, uint8 (H, W, 3), in display orientation.

    Raises:
      ImageError: the file is unreadable, holds no video stream, or its frames are too large.
      ValueError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(
            f'{path}: videos need the extra "video"; pip install "zeroseg_jax[video]".'
        ) from error
    if not path.is_file() or not path.stat().st_size:
        raise ImageError(f"{path}: the file is missing or empty; name another.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path}: holds no video stream; name another file.")
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: frames of {stream.width} x {stream.height} px exceed the limit of "
                    f"{MAX_PIXELS} pixels; make them smaller."
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
        raise ImageError(
            f"{path}: unreadable as a video ({error.strerror}); convert it."
        ) from error


def _free_stem(stem: str, taken: set[str]) -> str:
    """Number a stem that is taken: equal names of two folders must not overwrite each other."""
    # Room for "_overlay.png" and a number in the 255 bytes of a name.
    while len(os.fsencode(stem)) > _MAX_STEM_BYTES:
        stem = stem[:-1]
    number, free = 1, stem
    while free.casefold() in taken:  # some file systems take a.png and A.png for one file
        number += 1
        free = f"{stem}-{number}"
    taken.add(free.casefold())
    return free
