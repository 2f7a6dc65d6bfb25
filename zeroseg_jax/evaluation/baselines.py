"""Segmenters by name: baselines "chance" and "dense:READOUT" of a frozen CLIP, runs and exports."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.label_rules import build_rule
from zeroseg_jax.inference.model import load, load_readout, load_towers
from zeroseg_jax.inference.preset_differences import check_read_out
from zeroseg_jax.inference.presets import Preset, check_scale
from zeroseg_jax.inference.scoring import ClassVectors, Encoded, Scored
from zeroseg_jax.inference.segmenters import ModelSegmenter, Segmenter
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.readouts import READOUTS
from zeroseg_jax.teacher.towers import FAMILIES

CHANCE = "chance"
_BLOCK_PX = 16
_DENSE = "dense:"


def build_segmenter(
    name: str,
    class_names: list[list[str]],
    preset: Preset,
    *,
    teacher: str = "",
    devices: list[jax.Device] | None = None,
) -> tuple[Segmenter, ClassVectors, str]:
    """Build a baseline, or load a model.

    Args:
      name: baseline of build_baseline, or model of inference.model.load.
      class_names: synonyms of each class.
      preset: its normalisation, prompts and background names.
      teacher: directory or name of the CLIP, "A+B" for dense:proxy; "" for the one of the run, of
        a baseline the shipped one.
      devices: devices that share the windows; None for one.

    Returns:
      The segmenter, the class vectors, and the name of the model for reports.

    Raises:
      ValueError: see build_baseline and inference.model.load.
    """
    source = open_source(name, teacher=teacher, devices=devices)
    return source.build(preset), embed_class_names(source.clip, class_names, preset), source.title


class ModelSource:
    """A model that is loaded once and read under several presets.

    Args:
      title: name of the model for reports.
      clip: the CLIP that embeds class names.
      build: builds the segmenter of a preset.
    """

    def __init__(self, title: str, clip: Teacher, build: Callable[[Preset], Segmenter]):
        self.title, self.clip, self._build = title, clip, build
        self._built: dict[tuple[str, str], Segmenter] = {}

    def build(self, preset: Preset) -> Segmenter:
        """Return the segmenter of a preset; presets of the same pixels and positions share one.

        Raises:
          ValueError: the preset has no meaning for the model.
        """
        key = (preset.normalisation, preset.positions)
        if key not in self._built:
            self._built[key] = self._build(preset)
        segmenter = self._built[key]
        check_scale(preset, FAMILIES[self.clip.config.family].max_scale)
        described = segmenter.describe(preset)
        check_read_out(preset, described["read_out"], described.get("affinity", ""))
        return segmenter


def open_source(
    name: str, *, teacher: str = "", devices: list[jax.Device] | None = None
) -> ModelSource:
    """Load a baseline or a model; arguments and errors as in build_segmenter."""
    if name == CHANCE or name.startswith(_DENSE):
        check_baseline(name)
        teacher = teacher or "playground"
        clip, affinity = load_towers(teacher)
        return ModelSource(
            f"{name} of {teacher}",
            clip,
            lambda preset: build_baseline(name, clip, preset, affinity=affinity, devices=devices),
        )
    model = load(name, teacher=teacher)
    return ModelSource(
        model.checkpoint,
        model.teacher,
        lambda preset: ModelSegmenter(
            model, preset.normalisation, positions=preset.positions, devices=devices
        ),
    )


def build_baseline(
    name: str,
    teacher: Teacher,
    preset: Preset,
    *,
    affinity: Teacher | None = None,
    devices: list[jax.Device] | None = None,
) -> Segmenter:
    """Build "dense:READOUT" of the teacher, or "chance".

    Args:
      name: the baseline.
      teacher: the CLIP; it also sets the size of chance's windows.
      preset: its normalisation.
      affinity: second tower, for dense:proxy alone.
      devices: devices that share the windows; None for one.

    Raises:
      ValueError: another name, or a read-out that does not fit the towers.
    """
    check_baseline(name)
    if name == CHANCE:
        return ChanceSegmenter(load_readout(teacher, "raw").image_px)
    model = load_readout(teacher, name.removeprefix(_DENSE), affinity=affinity)
    return ModelSegmenter(model, preset.normalisation, positions=preset.positions, devices=devices)


def check_baseline(name: str) -> None:
    """Raise a ValueError if a name is not that of a baseline."""
    known = [*(f"{_DENSE}{readout}" for readout in READOUTS), CHANCE]
    if name not in known:
        raise ValueError(f"--model: {name!r} is not one of {', '.join(known)}, predictions:DIR.")


class ChanceSegmenter:
    """Segmenter that draws a class for each block of 16 x 16 px; a function of the pixels alone.

    Args:
      image_px: side of a square window.
    """

    patch_px, windows_per_call, logit_scale = 1, 1, 1.0
    seen_names: frozenset[str] = frozenset()

    def __init__(self, image_px: int):
        self.image_px = image_px

    def encode(self, windows: np.ndarray) -> Encoded:
        """Return the seed of the window's draws as its feature."""
        seed = zlib.crc32(windows.tobytes())
        return Encoded(np.array([[[seed]]], np.uint32), None, np.zeros(windows.shape[:3], np.uint8))

    def score(self, encoded: Encoded, classes: ClassVectors, preset: Preset) -> Scored:
        """Draw one of the preset's labels for each block."""
        class_ids = build_rule(preset, classes, self.logit_scale).class_ids
        labels, columns = np.unique(class_ids, return_index=True)
        height, width = np.asarray(encoded.segment_ids).shape[1:]
        rng = np.random.default_rng(int(np.asarray(encoded.features).item()))
        blocks = rng.integers(len(labels), size=(-(-height // _BLOCK_PX), -(-width // _BLOCK_PX)))
        drawn = blocks.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)[:height, :width]
        table = np.zeros((1, len(labels), len(class_ids)), np.float32)
        table[0, np.arange(len(labels)), columns] = 1
        return Scored(table, drawn[None])

    def describe(self, preset: Preset) -> dict[str, Any]:
        """See Segmenter."""
        return {"read_out": CHANCE}

    def checksum(self) -> int:
        """Return 0: there are no weights."""
        return 0
