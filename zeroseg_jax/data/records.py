"""Binary records of a bank: a header of sizes, then the arrays one after the other.

Everything is little-endian. A bank record: "ZSB1", index u64, u16 each of name bytes, H, W, V, E,
bytes of a feature value u8; then name (UTF-8), image uint8 (H, W, 3), features float16 or float32
(V, E). A region record: "ZSR1", u16 each of map side S, regions K, width E, bytes of the
statistics; then fused int16 (S, S), local float16 (K, E), statistics (JSON). A record of dense
targets: "ZSD1", u16 each of patches P and width E, bytes of a value u8; then float16 or float32
(P, E).
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

_BANK_HEADER, _BANK_MAGIC = struct.Struct("<4sQ5HB"), b"ZSB1"
_REGION_HEADER, _REGION_MAGIC = struct.Struct("<4s4H"), b"ZSR1"
_DENSE_HEADER, _DENSE_MAGIC = struct.Struct("<4s2HB"), b"ZSD1"
_FEATURE_TYPES = {2: "<f2", 4: "<f4"}


class BankError(ValueError):
    """A bank that cannot be used; the message is one sentence."""


def encode_record(index: int, name: str, image: np.ndarray, features: np.ndarray) -> bytes:
    """Pack an image and its features.

    Args:
      index: position in the source, at least 0.
      name: name of the image, at most 65,535 bytes of UTF-8; bytes of a file name that are no
        UTF-8 are kept.
      image: uint8 (H, W, 3).
      features: float16 or float32 (V, E), the teacher's global features of V views.

    Raises:
      BankError: a feature is not finite; names the image.
    """
    check_finite(features, f"{name} (image {index})")
    raw = name.encode(errors="surrogateescape")
    header = _BANK_HEADER.pack(
        _BANK_MAGIC, index, len(raw), *image.shape[:2], *features.shape, features.dtype.itemsize
    )
    return b"".join((header, raw, image.tobytes(), features.tobytes()))


def check_finite(features: np.ndarray, name: str) -> None:
    """Refuse features with NaN or infinity.

    Args:
      features: floats of any shape.
      name: owner of the features, the beginning of the message.

    Raises:
      BankError: a value is not finite.
    """
    if not np.isfinite(features).all():
        raise BankError(f"{name}: a feature of the teacher is NaN or infinite; see the teacher.")


def decode_record(record: bytes) -> dict[str, Any]:
    """Unpack what encode_record packed: image, features, index, name.

    Raises:
      BankError: the record is of another kind or damaged.
    """
    fields = _unpack_header(record, _BANK_HEADER, _BANK_MAGIC)
    index, name_bytes, height, width, views, embed, size = fields
    name, image, features = _unpack(
        record,
        _BANK_HEADER.size,
        ("u1", (name_bytes,)),
        ("u1", (height, width, 3)),
        (_FEATURE_TYPES.get(size, "V"), (views, embed)),
    )
    text = name.tobytes().decode(errors="surrogateescape")
    return {"image": image, "features": features, "index": index, "name": text}


def count_record_bytes(
    image_px: int, views: int, embed_dim: int, dtype: str, dense: int = 0
) -> int:
    """Return the bytes of a bank record without its name, and of the dense targets beside it.

    Args:
      image_px: side of the image.
      views: number of views V.
      embed_dim: width E of the features.
      dtype: "float16" or "float32".
      dense: number of dense targets of the image; 0 for none.
    """
    values = np.dtype(dtype).itemsize * embed_dim
    beside = _DENSE_HEADER.size + dense * values if dense else 0
    return _BANK_HEADER.size + image_px**2 * 3 + views * values + beside


def encode_regions(fused: np.ndarray, local: np.ndarray, stats: dict[str, Any]) -> bytes:
    """Pack the regions of an image.

    Args:
      fused: int16 (S, S), fused label map: -1, a seen class, or a region, numbered after them.
      local: float16 (K, E), the teacher's feature of each region, zeros for absent ones; K is 0
        without local views.
      stats: statistics of the regions, as JSON at most 65,535 bytes.
    """
    text = json.dumps(stats).encode()
    header = _REGION_HEADER.pack(_REGION_MAGIC, len(fused), *local.shape, len(text))
    return b"".join((header, fused.tobytes(), local.tobytes(), text))


def decode_regions(record: bytes) -> dict[str, Any]:
    """Unpack what encode_regions packed: fused, local, stats.

    Raises:
      BankError: the record is of another kind or damaged.
    """
    side, regions, embed, size = _unpack_header(record, _REGION_HEADER, _REGION_MAGIC)
    fused, local, text = _unpack(
        record,
        _REGION_HEADER.size,
        ("<i2", (side, side)),
        ("<f2", (regions, embed)),
        ("u1", (size,)),
    )
    return {"fused": fused, "local": local, "stats": json.loads(text.tobytes())}


def encode_dense(name: str, dense: np.ndarray) -> bytes:
    """Pack the dense targets of an image.

    Args:
      name: owner of the targets, the beginning of an error.
      dense: float16 or float32 (P, E), one target for each patch of the student.

    Raises:
      BankError: a value is not finite; names the owner.
    """
    check_finite(dense, name)
    header = _DENSE_HEADER.pack(_DENSE_MAGIC, *dense.shape, dense.dtype.itemsize)
    return header + dense.tobytes()


def decode_dense(record: bytes) -> dict[str, Any]:
    """Unpack what encode_dense packed: dense.

    Raises:
      BankError: the record is of another kind or damaged.
    """
    patches, embed, size = _unpack_header(record, _DENSE_HEADER, _DENSE_MAGIC)
    layout = (_FEATURE_TYPES.get(size, "V"), (patches, embed))
    return {"dense": _unpack(record, _DENSE_HEADER.size, layout)[0]}


def _unpack_header(record: bytes, header: struct.Struct, magic: bytes) -> tuple[int, ...]:
    if len(record) < header.size or not record.startswith(magic):
        raise BankError(
            f"bank: a record begins with {record[:4]!r}, not {magic!r}; prepare it again."
        )
    return header.unpack_from(record)[1:]


def _unpack(record: bytes, start: int, *layout: tuple[str, tuple[int, ...]]) -> list[np.ndarray]:
    """Return the arrays that follow each other from `start`, as views of the record."""
    ends = [start]
    for dtype, shape in layout:
        ends.append(ends[-1] + math.prod(shape) * np.dtype(dtype).itemsize)
    if ends[-1] != len(record):
        raise BankError(
            f"bank: a record has {len(record)} bytes instead of {ends[-1]}; prepare it again."
        )
    return [
        np.frombuffer(record, dtype, math.prod(shape), at).reshape(shape)
        for (dtype, shape), at in zip(layout, ends, strict=False)
    ]
