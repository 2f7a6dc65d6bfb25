"""Records of a bank joined with those of a second stage: regions (CLIP-ZSS) or dense targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zeroseg_jax.config import Config
from zeroseg_jax.data.bank import DENSE_FOLDER, PREPARE_AGAIN, REGIONS_FOLDER, BankSource
from zeroseg_jax.data.records import BankError, decode_dense, decode_regions


def count_targets(config: Config) -> int:
    """Return P, the dense targets of an image: one for each patch; 0 without loss.dense."""
    if config.objective != "zeroseg" or not config.loss.dense:
        return 0
    return (config.model.image_px // config.model.encoder.patch_px) ** 2


class FusedSource:
    """Records of a bank with the fused label map and local features of each (CLIP-ZSS).

    Args:
      directory: directory of the bank.

    Raises:
      BankError: the bank has no finished regions, or fewer or more of them than records.
    """

    def __init__(self, directory: str | Path):
        self._images = BankSource(directory)
        self._regions = BankSource(Path(directory) / REGIONS_FOLDER, decode=decode_regions)
        self.manifest = self._images.manifest
        self.notes = [*self._images.notes, *self._regions.notes]
        self.regions_manifest = self._regions.manifest
        _check_counts(directory, self._images, self._regions, "regions")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = self._regions[index]
        return {**self._images[index], "fused": found["fused"], "local": found["local"]}

    def stats(self, index: int) -> dict[str, Any]:
        """Return the statistics of an image's regions."""
        return self._regions[index]["stats"]


class DenseSource:
    """Records of a bank with the dense targets of each (loss.dense).

    Args:
      directory: directory of the bank.

    Attributes:
      manifest, dense_manifest: manifests of the bank and of its targets.
      notes: sentences about an older bank, see BankSource.

    Raises:
      BankError: the bank has no finished targets, or fewer or more of them than records.
    """

    def __init__(self, directory: str | Path):
        self._images = BankSource(directory)
        self._dense = BankSource(Path(directory) / DENSE_FOLDER, decode=decode_dense)
        self.manifest, self.dense_manifest = self._images.manifest, self._dense.manifest
        self.notes = self._images.notes
        _check_counts(directory, self._images, self._dense, "dense targets")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._images[index], **self._dense[index]}


def _check_counts(directory: str | Path, images: BankSource, stage: BankSource, name: str) -> None:
    if len(images) != len(stage):
        raise BankError(
            f"{directory}: {len(images)} images but {name} of {len(stage)}; {PREPARE_AGAIN}."
        )
