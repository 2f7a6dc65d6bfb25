"""Random-access sources out of large files: ArrayRecord, tar shards, TensorFlow Datasets.

Each gives what sources.Source says. They hold paths and offsets, no open files, so that worker
processes can take copies.
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
    """Every record of the *.arrayrecord files below a folder, each the bytes of an image file.

    Args:
      directory: searched recursively; files sorted by path.
      limit: at most so many records, 0 for all.
      max_pixels: see transforms.read_image.

    Raises:
      ValueError: no such folder or no such file in it.
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
    """Every image in the *.tar files below a folder, as webdataset's shards have them.

    The headers are read once at the start; then any image is read alone. What lies beside an
    image in its shard (captions, JSON) is left alone.

    Args:
      directory: searched recursively; shards sorted by path, images in their order.
      suffixes: of the members that are images, in lower case.
      limit: at most so many images, 0 for all.
      max_pixels: see transforms.read_image.

    Raises:
      ValueError: no such folder, no shard or image in it, or a shard that is damaged.
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
                f"data.directory: the shards of {directory} hold no image "
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
                archive.members.clear()  # it would keep the header of every member
                end = member.offset_data + member.size
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(
            f"data.directory: {path} is not a whole, uncompressed tar file ({error}); fetch it "
            "again or take it away."
        ) from error
    if found and end > path.stat().st_size:
        raise ValueError(
            f"data.directory: {path} is cut short, at {path.stat().st_size} of {end} bytes or "
            "more; fetch it again or take it away."
        )
    return found


class TfdsSource:
    """The images of a prepared data set of TensorFlow Datasets, read without TensorFlow.

    Args:
      name: NAME:SPLIT, for example imagenet2012:train; TFDS_DATA_DIR says where it lies.
      limit: at most so many images, 0 for all.

    Raises:
      ValueError: no such data set prepared as ArrayRecord, or one without images.
    """

    def __init__(self, name: str, limit: int):
        if not importlib.util.find_spec("tensorflow_datasets"):
            raise ValueError("data.source: tfds needs tensorflow-datasets; pip install it.")
        import tensorflow_datasets as tfds

        builder, _, split = name.partition(":")
        try:
            self._records = tfds.data_source(builder, split=split or "train", download=False)
        except (ValueError, OSError, AssertionError, KeyError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error)
            raise ValueError(
                f"data.directory: {name} cannot be opened ({reason}); prepare it with "
                "tensorflow-datasets, file_format=array_record, and set TFDS_DATA_DIR."
            ) from error
        if len(self._records) and "image" not in self._records[0]:
            raise ValueError(
                f"data.directory: {name} has no feature `image` but "
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
            f"data.directory: {directory} holds no *{suffix} file; name another folder or set "
            "data.source."
        )
    return files


def _decode(content: bytes, name: str, max_pixels: int) -> np.ndarray:
    if not content:
        raise ImageError(f"{name}: the file is empty.")
    return decode_image(io.BytesIO(content), name, max_pixels=max_pixels, advice=_ADVICE)
