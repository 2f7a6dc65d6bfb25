"""What a run learns from: batches of images and teacher features, from a bank or live."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data import bank, pipeline, sources
from zeroseg_jax.data.views import grid_windows, list_windows
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher.region_labels import describe_settings
from zeroseg_jax.teacher.views import build_encoder

# Records whose features make the mean that the student starts at.
_MEAN_RECORDS = {"bank": 2048, "live": 64}
_MEAN_BATCH = 16

HostBatch = dict[str, np.ndarray]


def describe_batch(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a global batch as the step takes it, for features from a bank."""
    side, count = config.model.image_px, config.optim.batch_global
    views = len(list_windows(config))
    shapes = {
        "image": jax.ShapeDtypeStruct((count, side, side, 3), np.uint8),
        "features": jax.ShapeDtypeStruct(
            (count, views, config.model.embed_dim), np.dtype(config.teacher.dtype)
        ),
    }
    if config.objective == "clip_zss":
        map_px = side // config.clip_zss.labels.stride_px
        local = config.clip_zss.regions.max_regions if config.clip_zss.loss.local_weight else 0
        shapes["fused"] = jax.ShapeDtypeStruct((count, map_px, map_px), np.int16)
        shapes["local"] = jax.ShapeDtypeStruct((count, local, config.model.embed_dim), np.float16)
    return shapes


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The training set as one run sees it.

    Attributes:
      source: random access to records with image and features, or image and views.
      teacher: the frozen CLIP where features are made live, else None.
      teacher_digest: sha256 hex digest of the CLIP that made or makes the features.
      config: of the run.
      seen_words: of CLIP-ZSS, for each seen class its synonyms.
    """

    source: Any
    teacher: Teacher | None
    teacher_digest: str
    config: Config
    seen_words: list[list[str]] = dataclasses.field(default_factory=list)

    @property
    def images(self) -> int:
        """Return how many records an epoch has."""
        return len(self.source)

    def batches(self, start_step: int, *, batch_per_host: int) -> Iterator[HostBatch]:
        """Yield this host's batches for ever, beginning with that of `start_step`.

        Returns:
          Dicts of image uint8 (B, image_px, image_px, 3), features (B, V, E), index int64 (B,).
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
        )
        return iterator if self.teacher is None else self._encode(iterator)

    def feature_mean(self) -> np.ndarray:
        """Average the features of the first records over records and views: float32 (E,).

        Features are taken as the loss takes them: as they are, or of unit length. The sum is
        made in float64 and in order, so that every host starts at the same bits.
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
            features = features.astype(np.float64)
            if self.config.loss.features == "unit":
                features /= np.linalg.norm(features, axis=-1, keepdims=True)
            total += features.mean(axis=1).sum(axis=0)
        return (total / count).astype(np.float32)

    def _encode(self, iterator: Iterator[dict[str, np.ndarray]]) -> Iterator[HostBatch]:
        encode = build_encoder(self.teacher)
        for batch in iterator:
            features = jax.device_get(encode(batch["views"]))
            yield {"image": batch["image"], "features": features, "index": batch["index"]}


def build_inputs(
    config: Config, workdir: Path, teacher: Teacher | None, log: Callable[[str], None]
) -> Inputs:
    """Open the training set and check that it fits the student.

    Args:
      config: of the run; data.features says bank or live.
      workdir: of the run, where the bank is unless data.bank names another.
      teacher: the frozen CLIP; required for live features, and compared with the bank's if given.
      log: takes the lines that name skipped images.

    Returns:
      Inputs.

    Raises:
      ValueError: no bank, a bank of other settings (it may have more grids, and where the
        config names it more images) or of another teacher, an empty source, or a
        teacher whose width is not the student's.
    """
    if config.data.features == "bank":
        directory = Path(config.data.bank) if config.data.bank else workdir / "bank"
        is_zss = config.objective == "clip_zss"
        source = bank.FusedSource(directory) if is_zss else bank.BankSource(directory)
        manifest = source.manifest
        _check_width(config, manifest["embed_dim"], f"the bank {directory}")
        wanted = {
            "grids": list(config.teacher.grids),
            "overlap": config.teacher.overlap,
            "image_px": config.model.image_px,
            "dtype": config.teacher.dtype,
        }
        if not config.data.bank:
            # A bank that the config names may come from elsewhere; the run's own may not.
            wanted["source"] = sources.describe_source(config)
        if teacher is not None:
            wanted["teacher"] = teacher.digest
        if set(config.teacher.grids) < set(manifest["grids"]):
            wanted["grids"] = manifest["grids"]
        bank.check_manifest(manifest, wanted)
        words = _check_regions(config, source.regions_manifest) if is_zss else []
        source = _take_part(source, config, log)
        return Inputs(source, None, manifest["teacher"], config, words)
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


def _take_part(
    source: bank.BankSource | bank.FusedSource, config: Config, log: Callable[[str], None]
) -> bank.BankSource | bank.FusedSource | bank.BankPart:
    """Take what the config wants of a bank that may have more grids, or more images if named."""
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
    return bank.BankPart(source, images, wanted)


def _check_regions(config: Config, manifest: dict[str, Any]) -> list[list[str]]:
    """Refuse regions of other settings; return the seen words."""
    wanted = {k: v for k, v in describe_settings(config).items() if k in manifest}
    # Without the local term its views are not read, whether or not the bank holds them.
    if not config.clip_zss.loss.local_weight:
        wanted.pop("local_view", None)
    bank.check_manifest(manifest, wanted)
    return manifest["seen_words"]


def _check_width(config: Config, width: int, origin: str) -> None:
    if config.model.embed_dim != width:
        raise ValueError(
            f"model.embed_dim: {config.model.embed_dim} does not match {origin}, whose features "
            f"are {width} wide; set model.embed_dim={width} or use another teacher."
        )
