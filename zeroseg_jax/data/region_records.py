"""What CLIP-ZSS's prepare leaves beside the bank: a fused label map an image.

BANK/regions/ has the bank's shards, record for record. A record, little-endian: "ZSR1", then u16
each: side of the map, regions K, width E, bytes of the statistics; then the fused map int16
(side, side), the teacher's view of each region float16 (K, E), zeros where there is none, and the
statistics as JSON. Without local views K is 0.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.bank import BankError, BankSource

_HEADER = struct.Struct("<4s4H")
_MAGIC = b"ZSR1"
FOLDER = "regions"


def encode_regions(fused: np.ndarray, local: np.ndarray, stats: dict[str, Any]) -> bytes:
    """Pack a fused map int16 (side, side), local views float16 (K, E) and statistics."""
    text = json.dumps(stats).encode()
    header = _HEADER.pack(_MAGIC, len(fused), *local.shape, len(text))
    return b"".join((header, fused.tobytes(), local.tobytes(), text))


def decode_regions(record: bytes) -> dict[str, Any]:
    """Unpack what encode_regions packed: fused, local, stats."""
    magic, side, k, width, size = _HEADER.unpack_from(record)
    if magic != _MAGIC:
        raise BankError(f"regions: a record begins with {magic!r}, not {_MAGIC!r}; prepare again.")
    at = _HEADER.size
    fused = np.frombuffer(record, np.int16, side * side, at).reshape(side, side)
    at += fused.nbytes
    local = np.frombuffer(record, np.float16, k * width, at).reshape(k, width)
    at += local.nbytes
    return {"fused": fused, "local": local, "stats": json.loads(record[at : at + size])}


class FusedSource:
    """The records of a bank, each with its fused label map.

    Args:
      bank: directory of a finished bank.

    Raises:
      BankError: no regions there, or not as many as the bank has records.
    """

    def __init__(self, bank: str | Path):
        self._images = BankSource(bank)
        self._regions = BankSource(Path(bank) / FOLDER, decode=decode_regions)
        self.manifest = self._images.manifest
        self.regions_manifest = self._regions.manifest
        if len(self._images) != len(self._regions):
            raise BankError(
                f"{bank}: {len(self._images)} images but regions of {len(self._regions)}; "
                "prepare again."
            )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = self._regions[index]
        return {**self._images[index], "fused": found["fused"], "local": found["local"]}

    def stats(self, index: int) -> dict[str, Any]:
        """Return what the regions' making noted of an image."""
        return self._regions[index]["stats"]
