"""Baselines by name: "chance", and "dense:READOUT" of a frozen CLIP."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import numpy as np

from zeroseg_jax.inference.labelling import build_rule
from zeroseg_jax.inference.model import load_readout
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Encoded, Scored
from zeroseg_jax.inference.segmenters import ModelSegmenter, Segmenter
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.teacher.readouts import READOUTS

_BLOCK_PX = 16
_DENSE = "dense:"


def build_baseline(
    name: str, teacher: Teacher, preset: Preset, *, devices: list[jax.Device] | None = None
) -> Segmenter:
    """Build "dense:READOUT" of the teacher, or "chance".

    Args:
      name: the baseline.
      teacher: the CLIP; it also sets the size of chance's windows.
      preset: its normalisation.
      devices: devices that share the windows; None for one.

    Raises:
      ValueError: another name.
    """
    readout = name.removeprefix(_DENSE)
    if name != "chance" and (not name.startswith(_DENSE) or readout not in READOUTS):
        known = ", ".join(f"{_DENSE}{known}" for known in READOUTS)
        raise ValueError(f"--model: {name!r} is not one of {known}, chance, predictions:DIR.")
    if name == "chance":
        return ChanceSegmenter(load_readout(teacher, "raw").image_px)
    return ModelSegmenter(load_readout(teacher, readout), preset.normalisation, devices=devices)


class ChanceSegmenter:
    """Segmenter that draws a class for each block of 16 x 16 px; a function of the pixels alone.

    Args:
      image_px: side of a square window.
    """

    patch_px, windows_per_call, logit_scale = 1, 1, 1.0

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
        """Return nothing: chance has no settings."""
        return {}
