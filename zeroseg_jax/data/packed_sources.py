"""Image sources over packed files: ArrayRecord, tar shards, TensorFlow Datasets.

Each implements sources.Source. They hold paths and offsets instead of open files, so that they can
be copied to worker processes.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.transforms import ImageError, decode_image

_ADVICE = "make it smaller or raise data.max_pixels."


class ArrayRecordSource:
    """Records of the *.arrayrecord files below a folder; each holds the bytes of an image file.

    Args:
      directory: folder, searched recursively; files are sorted by path.
      limit: largest number of records; 0 for all.
      max_pixels: limit on width times height; see transforms.read_image.

    Raises:
      ValueError: the folder is missing or has no such file.
    """

    def __init__(self, directory: str, limit: int, max_pixels: int):
        import grain

        files = _find_files(directory, ".arrayrecord")
        self._records = grain.sources.ArrayRecordDataSource([str(path) for path in files])
        self._length = min(limit or len(self._records), len(self._records))
        self._directory, self._max_pixels = directory, max_pixels

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self._directory}[{index}]"
        image = _decode(self._records[index], name, self._max_pixels)
        return {"image": image, "name": name, "index": index}


class TarSource:
    """Images in the *.tar files below a folder (webdataset shards).

    The headers are read once at the start, so that each image can be read alone. Other members of
    a shard (captions, JSON) are ignored.

    Args:
      directory: folder, searched recursively; shards are sorted by path, images by position.
      suffixes: suffixes of image members, in lower case.
      limit: largest number of images; 0 for all.
      max_pixels: limit on width times height; see transforms.read_image.

    Raises:
      ValueError: the folder is missing, or has no shard or no image, or a shard is damaged.
    """

    def __init__(self, directory: str, suffixes: tuple[str, ...], limit: int, max_pixels: int):
        self._shards = _find_files(directory, ".tar")
        self._root, self._max_pixels = Path(directory), max_pixels
        members = itertools.chain.from_iterable(
            ((shard, *member) for member in _list_images(path, suffixes))
            for shard, path in enumerate(self._shards)
        )
        found = list(itertools.islice(members, limit or None))
        if not found:
            raise ValueError(
                f"data.directory: the shards of {directory} have no image "
                f"({', '.join(suffixes)}); name another folder."
            )
        self.names = [
            f"{self._shards[shard].relative_to(self._root)}/{name}" for shard, name, _, _ in found
        ]
        self._places = np.array([(shard, offset, size) for shard, _, offset, size in found])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        shard, offset, size = map(int, self._places[index])
        name = self.names[index]
        try:
            with open(self._shards[shard], "rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise ImageError(f"{name}: unreadable ({error.strerror or error}).") from error
        image = _decode(content, name, self._max_pixels)
        return {"image": image, "name": name, "index": index}


def _list_images(path: Path, suffixes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Return name, offset and size of the images of an uncompressed tar file."""
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile() and member.name.lower().endswith(suffixes):
                    found.append((member.name, member.offset_data, member.size))
                # tarfile keeps the header of every member otherwise.
                archive.members.clear()  # type: ignore[attr-defined]  # not in typeshed
                end = member.offset_data + member.size
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"data.directory: {path} is not a complete, uncompressed tar file ({error}); download "
            "it again or remove it."
        ) from error
    if found and end > path.stat().st_size:
        raise ValueError(
            f"data.directory: {path} is truncated, at {path.stat().st_size} of {end} bytes or "
            "more; download it again or remove it."
        )
    return found


class TfdsSource:
    """Images of a prepared data set of TensorFlow Datasets, read without TensorFlow.

    Args:
      name: NAME:SPLIT, for example imagenet2012:train, below $TFDS_DATA_DIR.
      limit: largest number of images; 0 for all.

    Raises:
      ValueError: the data set is not prepared as ArrayRecord, or has no feature "image".
    """

    def __init__(self, name: str, limit: int):
        if not importlib.util.find_spec("tensorflow_datasets"):
            raise ValueError("data.source: tfds is missing; pip install tensorflow-datasets.")
        import tensorflow_datasets as tfds

        builder, _, split = name.partition(":")
        try:
            self._records = tfds.data_source(builder, split=split or "train", download=False)
        except (ValueError, OSError, AssertionError, KeyError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error)
            raise ValueError(
                f"data.directory: {name} cannot be opened ({reason}); prepare it with "
                "tensorflow-datasets and file_format=array_record, and set TFDS_DATA_DIR."
            ) from error
        if len(self._records) and "image" not in self._records[0]:
            raise ValueError(
                f"data.directory: {name} has no feature `image`, only "
                f"{', '.join(self._records[0])}; name a data set of images."
            )
        self._name = name
        self._length = min(limit or len(self._records), len(self._records))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        name = f"{self._name}[{index}]"
        image = record["image"]
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        return {"image": image, "name": name, "index": index}


def _find_files(directory: str, suffix: str) -> list[Path]:
    root = Path(directory)
    if not root.is_dir():
        raise ValueError(f"data.directory: {directory} is not a folder; name one with *{suffix}.")
    files = sorted(path for path in root.rglob(f"*{suffix}") if path.is_file())
    if not files:
        raise ValueError(
            f"data.directory: {directory} has no *{suffix} file; name another folder or set "
            "data.source."
        )
    return files


def _decode(content: bytes, name: str, max_pixels: int) -> np.ndarray:
    if not content:
        raise ImageError(f"{name}: the file is empty.")
    return decode_image(io.BytesIO(content), name, max_pixels=max_pixels, advice=_ADVICE)
