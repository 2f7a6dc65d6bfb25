"""Measured images of an unfinished evaluation on disk: resume, and evaluation by several hosts.

OUTPUT/parts/IDENTITY/NUMBER.npz holds the ImageCounts of some images. IDENTITY is a digest of
everything that a measurement depends on, so a changed evaluation does not use the old parts. Every
report is made from the parts: an interrupted evaluation has the report of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.files import remove_stale, write_npz
from zeroseg_jax.evaluation.boundary import BoundaryIou
from zeroseg_jax.evaluation.measure import ImageCounts

FOLDER = "parts"
_CELLS = ("counts", "oracle_naming", "oracle_segments")
_ARRAYS = ("agreement", "errors", "shares")
_SCALARS = ("name", "ignored_px", "miou", "stretched")
_POLL_SECONDS = 0.5
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Parts:
    """The parts of one evaluation.

    Args:
      output: directory of the report.
      identity: content that JSON can hold; another one has other parts.
      images: number of images of the benchmark.
      host_index, host_count: this host measures the images host_index, host_index + host_count, ...
      save_seconds: time between two writes; a killed evaluation measures so much again.
    """

    def __init__(
        self,
        output: Path,
        identity: dict[str, Any],
        images: int,
        *,
        host_index: int = 0,
        host_count: int = 1,
        save_seconds: float = 10.0,
    ):
        text = json.dumps(identity, sort_keys=True, default=str)
        self._folder = output / FOLDER
        self.directory = self._folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._images, self._save_seconds = images, save_seconds
        self._share = range(host_index, images, host_count)
        self._waiting: list[tuple[int, ImageCounts]] = []
        self._saved = time.monotonic()
        if self.directory.is_dir():
            remove_stale(self.directory)

    def list_missing(self) -> list[int]:
        """List the images of this host that are not measured, ascending."""
        done = self._find()
        return [index for index in self._share if index not in done]

    def count(self) -> int:
        """Count the measured images of all hosts."""
        return len(self._find())

    def add(self, index: int, counts: ImageCounts) -> None:
        """Keep the measurements of an image, and write them if it is time."""
        self._waiting.append((index, counts))
        if time.monotonic() - self._saved >= self._save_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk, as one part."""
        if self._waiting:
            write_npz(
                self.directory / f"{self._waiting[0][0]:07d}.npz",
                compressed=True,
                **pack([index for index, _ in self._waiting], [one for _, one in self._waiting]),
            )
            self._waiting = []
        self._saved = time.monotonic()

    def wait(self, log: Callable[[str], None]) -> None:
        """Wait until the other hosts have measured their images."""
        said = 0.0
        while (done := self.count()) < self._images:
            if time.monotonic() - said > 60:
                said = time.monotonic()
                log(f"evaluate: waiting for {self._images - done} images of other hosts")
            time.sleep(_POLL_SECONDS)

    def read(self) -> Iterator[ImageCounts]:
        """Yield the measurements of all images in their order.

        Raises:
          ValueError: an image is not measured, or a part is damaged.
        """
        found = self._find()
        unpacked: dict[Path, dict[int, ImageCounts]] = {}
        left: dict[Path, int] = {}
        for path in found.values():
            left[path] = left.get(path, 0) + 1
        for index in range(self._images):
            if index not in found:
                raise ValueError(
                    f"{self.directory}: image {index} is not measured; evaluate again."
                )
            path = found[index]
            if path not in unpacked:
                unpacked[path] = _read(path)
            yield unpacked[path][index]
            left[path] -= 1
            if not left[path]:
                del unpacked[path]

    def remove(self) -> None:
        """Remove all parts, also those of earlier settings."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _find(self) -> dict[int, Path]:
        """Return the part of each measured image; a damaged part is removed and measured again."""
        found: dict[int, Path] = {}
        for path in sorted(self.directory.glob("*.npz")):
            try:
                with np.load(path) as part:
                    found |= dict.fromkeys(part["indices"].tolist(), path)
            except _DAMAGED:
                path.unlink(missing_ok=True)
        return found


def pack(indices: list[int], images: list[ImageCounts]) -> dict[str, np.ndarray]:
    """Pack measurements as arrays: values of all images after each other, and their lengths."""
    columns: dict[str, list[np.ndarray]] = {}
    for one in images:
        for name, values in _to_arrays(one).items():
            columns.setdefault(name, []).append(values)
    packed = {"indices": np.array(indices, np.int64)}
    for name, parts in columns.items():
        packed[name] = np.concatenate(parts)
        packed[f"{name}:lengths"] = np.array([len(part) for part in parts], np.int64)
    return packed


def unpack(packed: dict[str, np.ndarray]) -> dict[int, ImageCounts]:
    """Return the measurements that `pack` packed, by index."""
    names = [name for name in packed if f"{name}:lengths" in packed]
    columns = {
        name: np.split(packed[name], np.cumsum(packed[f"{name}:lengths"])[:-1]) for name in names
    }
    return {
        int(index): _from_arrays({name: columns[name][i] for name in names})
        for i, index in enumerate(packed["indices"])
    }


def _read(path: Path) -> dict[int, ImageCounts]:
    try:
        with np.load(path) as part:
            return unpack({name: part[name] for name in part.files})
    except _DAMAGED as error:
        raise ValueError(f"{path}: damaged ({error}); delete it and evaluate again.") from error


def _to_arrays(one: ImageCounts) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name in _CELLS:
        arrays[f"{name}:cells"], arrays[f"{name}:pixels"] = getattr(one, name)
    arrays |= {name: getattr(one, name) for name in _ARRAYS}
    arrays |= {name: np.array([getattr(one, name)]) for name in _SCALARS}
    # Few classes occur in an image.
    present = np.flatnonzero(one.boundary.union)
    arrays["boundary:classes"] = np.array([len(one.boundary.union)])
    arrays["boundary:present"] = present
    arrays["boundary:intersection"] = one.boundary.intersection[present]
    arrays["boundary:union"] = one.boundary.union[present]
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> ImageCounts:
    fields: dict[str, Any] = {
        name: (arrays[f"{name}:cells"], arrays[f"{name}:pixels"]) for name in _CELLS
    }
    fields |= {name: arrays[name] for name in _ARRAYS}
    fields |= {name: arrays[name][0].item() for name in _SCALARS}
    boundary = BoundaryIou(int(arrays["boundary:classes"][0]))
    boundary.intersection[arrays["boundary:present"]] = arrays["boundary:intersection"]
    boundary.union[arrays["boundary:present"]] = arrays["boundary:union"]
    return ImageCounts(boundary=boundary, **fields)
