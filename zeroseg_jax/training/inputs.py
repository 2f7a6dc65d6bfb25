"""Training set of a run: batches of images and teacher features, from a bank or live."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, mirrors, pipeline, sources
from zeroseg_jax.data.augmentation import build_augmentation
from zeroseg_jax.data.joined_banks import DenseSource, FusedSource, count_targets
from zeroseg_jax.data.records import check_finite
from zeroseg_jax.data.views import grid_windows, list_windows
from zeroseg_jax.teacher.dense_targets import describe_dense
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.region_labels import describe_settings
from zeroseg_jax.teacher.views import build_encoder

# Number of records in the mean feature, which initialises the student.
_MEAN_RECORDS = {"bank": 2048, "live": 64}
_MEAN_BATCH = 16

HostBatch = dict[str, np.ndarray]
BankRecords = bank.BankSource | FusedSource | DenseSource


def describe_batch(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a global batch of the step, for features from a bank."""
    side, count = config.model.image_px, config.optim.batch_global
    views = len(list_windows(config))
    shapes = {
        "image": jax.ShapeDtypeStruct((count, side, side, 3), np.uint8),
        "features": jax.ShapeDtypeStruct(
            (count, views, config.model.embed_dim), np.dtype(config.teacher.dtype)
        ),
    }
    if targets := count_targets(config):
        shapes["dense"] = jax.ShapeDtypeStruct(
            (count, targets, config.model.embed_dim), np.dtype(config.teacher.dtype)
        )
    if config.objective == "clip_zss":
        map_px = side // config.clip_zss.labels.stride_px
        local = config.clip_zss.regions.max_regions if config.clip_zss.loss.local_weight else 0
        shapes["fused"] = jax.ShapeDtypeStruct((count, map_px, map_px), np.int16)
        shapes["local"] = jax.ShapeDtypeStruct((count, local, config.model.embed_dim), np.float16)
    return shapes


class BankPart:
    """The first records of a bank, with some of the views.

    Args:
      source: the bank.
      images: number of records, at most len(source).
      rows: rows of the features to keep, in order.
    """

    def __init__(self, source: BankRecords, images: int, rows: list[int]):
        self.manifest = source.manifest
        self._source, self._images, self._rows = source, images, np.array(rows, int)

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._source[index]
        return {**record, "features": record["features"][self._rows]}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Training set of a run.

    Attributes:
      source: random access to records with image and features, or image and views.
      teacher: frozen CLIP for live features, else None.
      teacher_digest: sha256 hex digest of the CLIP that makes the features.
      config: settings of the run.
      seen_classes, unseen_classes: synonyms of each seen and unseen class (CLIP-ZSS).
    """

    source: Any
    teacher: Teacher | None
    teacher_digest: str
    config: Config
    seen_classes: list[list[str]] = dataclasses.field(default_factory=list)
    unseen_classes: list[list[str]] = dataclasses.field(default_factory=list)

    @property
    def images(self) -> int:
        """Number of records per epoch."""
        return len(self.source)

    def batches(self, start_step: int, *, batch_per_host: int) -> Iterator[HostBatch]:
        """Yield this host's batches without end.

        Args:
          start_step: step of the first batch.
          batch_per_host: B, images of this host per step.

        Returns:
          Dicts of "image" uint8 (B, image_px, image_px, 3), "features" (B, V, E) and "index"
          int64 (B,); for CLIP-ZSS also "fused" and "local"; with loss.dense "dense" (B, P, E).
        """
        data = self.config.data
        iterator = pipeline.build_train_iterator(
            self.source,
            batch_per_host=batch_per_host,
            seed=self.config.run.seed,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
            start_step=start_step,
            workers=data.workers,
            prefetch_batches=data.prefetch_batches,
            augment=build_augmentation(self.config),
        )
        return iterator if self.teacher is None else _encode(iterator, self.teacher)

    def feature_mean(self) -> np.ndarray:
        """Return the mean feature of the first records over records and views, float32 (E,).

        Features are scaled to unit length if the loss does so (loss.features). The sum runs in
        float64 and in a fixed order, so that it is bit-identical on every host.
        """
        count = min(_MEAN_RECORDS[self.config.data.features], self.images)
        encode = None if self.teacher is None else build_encoder(self.teacher)
        total = np.zeros(self.config.model.embed_dim, np.float64)
        for start in range(0, count, _MEAN_BATCH):
            records = [self.source[i] for i in range(start, min(start + _MEAN_BATCH, count))]
            if encode is None:
                features = np.stack([record["features"] for record in records])
            else:
                views = np.stack([record["views"] for record in records])
                features = np.asarray(encode(views))
                _check_live(features, [record["index"] for record in records])
            features = features.astype(np.float64)
            if self.config.loss.features == "unit":
                features /= np.linalg.norm(features, axis=-1, keepdims=True)
            total += features.mean(axis=1).sum(axis=0)
        return (total / count).astype(np.float32)


def _encode(iterator: Iterator[HostBatch], teacher: Teacher) -> Iterator[HostBatch]:
    """Replace the views of each batch by their features."""
    encode = build_encoder(teacher)
    for batch in iterator:
        features = jax.device_get(encode(batch["views"]))
        _check_live(features, batch["index"])
        yield {"image": batch["image"], "features": features, "index": batch["index"]}


def _check_live(features: np.ndarray, indices: Sequence[int] | np.ndarray) -> None:
    """Refuse features of the teacher that are not finite; a bank checks its own."""
    for index, rows in zip(indices, features, strict=True):
        check_finite(rows, f"image {index}")


def build_inputs(
    config: Config, workdir: Path, teacher: Teacher | None, log: Callable[[str], None]
) -> Inputs:
    """Open the training set and check that it fits the student.

    Args:
      config: settings of the run; data.features is "bank" or "live".
      workdir: work directory, whose bank is used unless data.bank names another.
      teacher: frozen CLIP, required for live features; None to skip its check against the bank.
      log: receiver of lines about skipped images.

    Raises:
      ValueError: no bank, a bank of other settings or of another teacher, an empty source, or a
        teacher whose width differs from the student's. A bank may have more grids, and a bank
        named in data.bank may have more images.
    """
    if config.data.features == "bank":
        return _open_bank(config, workdir, teacher, log)
    if teacher is None:
        raise ValueError("data.features: live features need a teacher; set teacher.directory.")
    _check_width(config, teacher.embed_dim, f"the teacher {config.teacher.directory}")
    source = pipeline.LiveViews(
        sources.build_source(config),
        image_px=config.model.image_px,
        windows=list_windows(config),
        view_px=teacher.image_px,
    )
    for reason in source.skipped:
        log(f"skipped {reason}")
    return Inputs(source, teacher, teacher.digest, config)


def _open_bank(
    config: Config, workdir: Path, teacher: Teacher | None, log: Callable[[str], None]
) -> Inputs:
    directory = bank.bank_directory(config, workdir)
    mirrors.pull(directory)
    fused = FusedSource(directory) if config.objective == "clip_zss" else None
    dense = None
    if count_targets(config):
        dense = DenseSource(directory)
        bank.check_manifest(dense.dense_manifest, describe_dense(config))
    source = fused or dense or bank.BankSource(directory)
    for note in source.notes:
        log(f"train: {note}")
    manifest = source.manifest
    _check_width(config, manifest["embed_dim"], f"the bank {directory}")
    wanted: dict[str, Any] = {
        "grids": list(config.teacher.grids),
        "overlap": config.teacher.overlap,
        "image_px": config.model.image_px,
        "dtype": config.teacher.dtype,
    }
    if not config.data.bank:
        # The run's own bank must be of its source; a bank named in data.bank need not be.
        wanted["source"] = sources.describe_source(config)
    if teacher is not None:
        wanted["teacher"] = teacher.digest
    if set(config.teacher.grids) < set(manifest["grids"]):
        wanted["grids"] = manifest["grids"]
    bank.check_manifest(manifest, wanted)
    classes = ([], []) if fused is None else _check_regions(config, fused.regions_manifest)
    return Inputs(_take_part(source, config, log), None, manifest["teacher"], config, *classes)


def _take_part(
    source: BankRecords, config: Config, log: Callable[[str], None]
) -> BankRecords | BankPart:
    """Select the grids and images of the config from a bank that may have more."""
    start, rows = 0, {}
    for grid in source.manifest["grids"]:
        stop = start + len(grid_windows((grid,), config.teacher.overlap))
        rows[grid], start = list(range(start, stop)), stop
    wanted = [row for grid in config.teacher.grids for row in rows[grid]]
    images = len(source)
    if config.data.bank and 0 < config.data.images < images:
        log(f"train: the first {config.data.images} of {images} records (data.images)")
        images = config.data.images
    if (images, len(wanted)) == (len(source), start):
        return source
    return BankPart(source, images, wanted)


def _check_regions(
    config: Config, manifest: dict[str, Any]
) -> tuple[list[list[str]], list[list[str]]]:
    """Refuse regions of other settings; return the synonyms of the seen and unseen classes."""
    wanted = {k: v for k, v in describe_settings(config).items() if k in manifest}
    # Without the local term its views are not read, whether or not the bank holds them.
    if not config.clip_zss.loss.local_weight:
        wanted.pop("local_view", None)
    bank.check_manifest(manifest, wanted)
    return manifest["seen_words"], manifest["unseen_words"]


def _check_width(config: Config, width: int, origin: str) -> None:
    if config.model.embed_dim != width:
        raise ValueError(
            f"model.embed_dim: {config.model.embed_dim} does not match {origin}, whose features "
            f"are {width} wide; set model.embed_dim={width} or use another teacher."
        )
