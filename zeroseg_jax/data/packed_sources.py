"""Image sources over packed files: ArrayRecord, tar shards, TensorFlow Datasets.

Each implements sources.Source. They hold paths and offsets instead of open files, so that they can
be copied to worker processes.
"""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.folders import find_files, is_hidden
from zeroseg_jax.data.transforms import ImageError, decode_image

_ADVICE = "make it smaller or raise data.max_pixels."


class ArrayRecordSource:
    """Records of the *.arrayrecord files below a folder; each holds the bytes of an image file.

    Args:
      directory: folder, searched recursively; files are sorted by path.
      limit: largest number of records; 0 for all.
      max_pixels: limit on width times height; see transforms.read_image.
      least_px: side to which JPEGs may be reduced while they are decoded; see there.

    Raises:
      ValueError: the folder is missing or has no such file.
    """

    def __init__(self, directory: str, limit: int, max_pixels: int, least_px: int = 0):
        import grain

        files = _find_files(directory, ".arrayrecord")
        self._records = grain.sources.ArrayRecordDataSource([str(path) for path in files])
        self._length = min(limit or len(self._records), len(self._records))
        self._directory, self._limits = directory, (max_pixels, least_px)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self._directory}[{index}]"
        image = _decode(self._records[index], name, *self._limits)
        return {"image": image, "name": name, "index": index}


class TarSource:
    """Images in the *.tar files below a folder (webdataset shards).

    The headers are read once at the start, so that each image can be read alone. Other members of
    a shard (captions, JSON, hidden files) are ignored. A sample of a webdataset, the members that
    share their path up to the first dot of the name, gives one image: of KEY.jpg, KEY.png and
    KEY.seg.png the first, for the others are label maps.

    Args:
      directory: folder, searched recursively; shards are sorted by path, images by position.
      suffixes: suffixes of image members, in lower case, those of photographs first.
      limit: largest number of images; 0 for all.
      max_pixels: limit on width times height; see transforms.read_image.
      least_px: side to which JPEGs may be reduced while they are decoded; see there.

    Attributes:
      names: shard and name of each image.
      notes: sentences about members that were left out.

    Raises:
      ValueError: the folder is missing, or has no shard or no image, or a shard is damaged.
    """

    def __init__(
        self,
        directory: str,
        suffixes: tuple[str, ...],
        limit: int,
        max_pixels: int,
        least_px: int = 0,
    ):
        self._shards = _find_files(directory, ".tar")
        self._root, self._limits = Path(directory), (max_pixels, least_px)
        self.notes: list[str] = []
        found: list[tuple[int, str, int, int]] = []
        for shard, path in enumerate(self._shards):
            members = _list_images(path, suffixes)
            images = _drop_label_maps(members, suffixes)
            if len(images) < len(members):
                kept = {member[0] for member in images}
                first = next(member[0] for member in members if member[0] not in kept)
                self.notes.append(
                    f"{path}: {len(members) - len(images)} label maps were left out, for example "
                    f"{first}."
                )
            found += [(shard, *member) for member in images]
            if limit and len(found) >= limit:
                break
        found = found[: limit or None]
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
        image = _decode(content, name, *self._limits)
        return {"image": image, "name": name, "index": index}

    def count_bytes(self, index: int) -> int:
        """Return the size of an image's member."""
        return int(self._places[index][2])


def _list_images(path: Path, suffixes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Return name, offset and size of the images of an uncompressed tar file."""
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                parts = member.name.removeprefix("./").split("/")
                if (
                    member.isfile()
                    and parts[-1].lower().endswith(suffixes)
                    and not any(map(is_hidden, parts))
                ):
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


def _drop_label_maps(
    members: list[tuple[str, int, int]], suffixes: tuple[str, ...]
) -> list[tuple[str, int, int]]:
    """Return one image of each sample whose image is KEY with a suffix, and all of the others."""
    samples: dict[str, list[int]] = {}
    for i, (name, _, _) in enumerate(members):
        folder, _, last = name.rpartition("/")
        samples.setdefault(f"{folder}/{last.partition('.')[0]}", []).append(i)
    kept = []
    for group in samples.values():
        plain = {
            suffixes.index(Path(members[i][0]).suffix.lower()): i
            for i in reversed(group)
            if members[i][0].rpartition("/")[2].count(".") == 1
        }
        kept += [plain[min(plain)]] if plain else group
    return [members[i] for i in sorted(kept)]


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
            raise ValueError('data.source: tfds is missing; pip install "zeroseg_jax[tfds]".')
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
    files = find_files(root, (suffix,)).paths
    if not files:
        raise ValueError(
            f"data.directory: {directory} has no *{suffix} file; name another folder or set "
            "data.source."
        )
    return files


def _decode(content: bytes, name: str, max_pixels: int, least_px: int) -> np.ndarray:
    if not content:
        raise ImageError(f"{name}: the file is empty.")
    return decode_image(
        io.BytesIO(content), name, max_pixels=max_pixels, advice=_ADVICE, least_px=least_px
    )
