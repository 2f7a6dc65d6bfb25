"""The bank: for each image its training square and the teacher's features of its views.

DIRECTORY/shard-NNNNN.arrayrecord holds the readable ones of SHARD_IMAGES consecutive images of
the source, in order; shard-NNNNN.json beside it says how many and which were skipped. A shard
is written aside and renamed when whole, so whatever is there is good and a restart goes on
with the shards that are not. DIRECTORY/manifest.json closes the bank.

A record, little-endian: "ZSB1", index u64, then u16 each: name bytes, H, W, V, E, then the
feature width in bytes u8; then name (UTF-8), image uint8 (H, W, 3), features float (V, E).
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import files

FORMAT = 1
SHARD_IMAGES = 512
_HEADER = struct.Struct("<4sQ5HB")
_MAGIC = b"ZSB1"


class BankError(ValueError):
    """A bank that cannot be used; the message is one sentence."""


def encode_record(index: int, name: str, image: np.ndarray, features: np.ndarray) -> bytes:
    """Pack one image uint8 (H, W, 3) and its features float16 or float32 (V, E)."""
    raw = name.encode()
    header = _HEADER.pack(
        _MAGIC, index, len(raw), *image.shape[:2], *features.shape, features.dtype.itemsize
    )
    return b"".join((header, raw, image.tobytes(), features.tobytes()))


def decode_record(record: bytes) -> dict[str, Any]:
    """Unpack what encode_record packed: image, features, index, name."""
    magic, index, name_bytes, height, width, views, embed, size = _HEADER.unpack_from(record)
    if magic != _MAGIC:
        raise BankError(f"bank: a record begins with {magic!r}, not {_MAGIC!r}; prepare it again.")
    at = _HEADER.size
    name = record[at : at + name_bytes].decode()
    at += name_bytes
    image = np.frombuffer(record, np.uint8, height * width * 3, at).reshape(height, width, 3)
    at += image.size
    dtype = np.dtype({2: np.float16, 4: np.float32}[size])
    features = np.frombuffer(record, dtype, views * embed, at).reshape(views, embed)
    return {"image": image, "features": features, "index": index, "name": name}


def count_record_bytes(image_px: int, views: int, embed_dim: int, dtype: str) -> int:
    """Return the bytes of a record, names aside."""
    return _HEADER.size + image_px * image_px * 3 + views * embed_dim * np.dtype(dtype).itemsize


def bank_directory(config: Config, workdir: str | Path) -> Path:
    """Return the directory of a run's bank: data.bank, or WORKDIR/bank."""
    return Path(config.data.bank) if config.data.bank else Path(workdir) / "bank"


def begin_bank(directory: Path, settings: dict[str, Any]) -> None:
    """Make the directory and note the settings, or check them against those noted before.

    Raises:
      BankError: the directory was begun with other settings; names the first that differs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "settings.json"
    if not path.is_file():
        files.write_json(path, settings)
        return
    for name, value in json.loads(path.read_text()).items():
        if settings.get(name) != value:
            raise BankError(
                f"{directory}: begun with {name} = {value!r}, but now it is "
                f"{settings.get(name)!r}; use the same settings or another directory."
            )


def has_shard(directory: Path, shard: int) -> bool:
    """Tell whether a shard is complete."""
    return _shard_path(directory, shard).is_file()


def write_shard(
    directory: Path, shard: int, records: list[bytes], skipped: list[dict[str, str]]
) -> None:
    """Write a whole shard: aside, then its summary, then the rename that makes it count."""
    from array_record.python.array_record_module import ArrayRecordWriter

    path = _shard_path(directory, shard)
    part = path.with_suffix(".part")
    # group_size 1: a record is read alone, at random; raw pixels and halves do not compress.
    writer = ArrayRecordWriter(str(part), "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()
    files.write_json(path.with_suffix(".json"), {"records": len(records), "skipped": skipped})
    os.replace(part, path)


def finish_bank(directory: Path, shards: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Write and return the manifest: settings, counts, skipped files, bytes."""
    summaries = [
        json.loads(_shard_path(directory, i).with_suffix(".json").read_text())
        for i in range(shards)
    ]
    manifest = {
        "format": FORMAT,
        **settings,
        "shards": shards,
        "records": sum(summary["records"] for summary in summaries),
        "skipped": [entry for summary in summaries for entry in summary["skipped"]],
        "bytes": sum(_shard_path(directory, i).stat().st_size for i in range(shards)),
    }
    files.write_json(directory / "manifest.json", manifest)
    return manifest


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """Read a finished bank's manifest.

    Raises:
      BankError: none there, or of another format.
    """
    path = Path(directory) / "manifest.json"
    if not path.is_file():
        raise BankError(
            f"{directory}: no finished bank there; run `python -m zeroseg_jax prepare` with the "
            "same --config and --workdir first."
        )
    manifest = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise BankError(f"{path}: format {manifest.get('format')}, not {FORMAT}; prepare it again.")
    return manifest


def check_manifest(manifest: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse a bank whose manifest differs from what training wants.

    Raises:
      BankError: names the first field and both values.
    """
    for name, value in wanted.items():
        found = manifest.get(name)
        if isinstance(value, dict) and isinstance(found, dict):
            check_manifest(
                {f"{name}.{key}": part for key, part in found.items()},
                {f"{name}.{key}": part for key, part in value.items()},
            )
        elif found != value:
            raise BankError(
                f"bank: {name} is {found!r} there but {value!r} in the config; "
                "prepare again or set the config to the bank's value."
            )


class BankSource:
    """Random access to the records of a finished bank; `decode` unpacks one."""

    def __init__(
        self,
        directory: str | Path,
        decode: Callable[[bytes], dict[str, Any]] = decode_record,
    ):
        import grain

        self._decode = decode

        self.manifest = read_manifest(directory)
        paths = [str(_shard_path(Path(directory), i)) for i in range(self.manifest["shards"])]
        self._records = grain.sources.ArrayRecordDataSource(paths)
        if len(self._records) != self.manifest["records"]:
            raise BankError(
                f"{directory}: {len(self._records)} records, but the manifest says "
                f"{self.manifest['records']}; prepare it again."
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._decode(self._records[index])


class BankPart:
    """The first records of a bank, with some of its views.

    Args:
      source: the bank.
      images: records, at most as many as there are.
      rows: of the features, in the order wanted.
    """

    def __init__(self, source: BankSource, images: int, rows: list[int]):
        self.manifest = source.manifest
        self._source, self._images, self._rows = source, images, rows

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._source[index]
        return {**record, "features": record["features"][self._rows]}


def _shard_path(directory: Path, shard: int) -> Path:
    return directory / f"shard-{shard:05d}.arrayrecord"
