"""Segmenters: a model as two compiled steps, encode (no class names) and score.

A window's result must not depend on how many windows are encoded at once: XLA may sum in another
order for another shape, and a near tie would flip. So each window shape compiles once, for
windows_per_call windows; incomplete calls are padded and the padding is dropped.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import (
    ClassVectors,
    Encoded,
    Scored,
    choose_segments,
    score_windows,
    unit,
)
from zeroseg_jax.models.clip_zss.student import apply_dense, build_dense_student
from zeroseg_jax.models.zeroseg.student import apply_segment, build_student
from zeroseg_jax.teacher.programs import Program
from zeroseg_jax.teacher.readouts import check_readout, read_out
from zeroseg_jax.teacher.towers import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, VisionTower

_ACCELERATOR_WINDOWS = 8  # a call and device; a CPU's cores are busy with one

Array = jax.Array
Forward = Callable[[Any, Array], Encoded]


class Segmenter(Protocol):
    """A model that turns windows into scores.

    Attributes:
      image_px: side of a square window, where the preset has none.
      patch_px: sides of windows are multiples of it.
      windows_per_call: number of windows of each call of `encode` and `score`.
      logit_scale: factor of cosines, where the preset has none.
      seen_names: class names that had labels in training (CLIP-ZSS); empty without labels.
    """

    image_px: int
    patch_px: int
    windows_per_call: int
    logit_scale: float
    seen_names: frozenset[str]

    def encode(self, windows: np.ndarray) -> Encoded:
        """Encode float32 (windows_per_call, H, W, 3) in [0, 255]; does not wait for the device."""

    def score(self, encoded: Encoded, classes: ClassVectors, preset: Preset) -> Scored:
        """Score encoded windows for class names; does not wait for the device."""

    def describe(self, preset: Preset) -> dict[str, Any]:
        """Return what a report records of the model under a preset."""

    def checksum(self) -> int:
        """Return a checksum of the weights; 0 without weights."""


class ModelSegmenter:
    """Segmenter of a ZeroSeg student, a CLIP-ZSS student or a frozen CLIP's read-out.

    Args:
      model: from model.load.
      normalisation: "model", "clip" or "imagenet"; see Preset.
      positions: "size" or "scale"; see Preset.
      devices: devices that share the windows; None for JAX's default device.
      dtype: dtype of the matrix products, "float32", "bfloat16" or "float16"; "" for the model's
        own: float32, and bfloat16 for a frozen CLIP on an accelerator.
    """

    def __init__(
        self,
        model: Model,
        normalisation: str = "model",
        *,
        positions: str = "size",
        devices: list[jax.Device] | None = None,
        dtype: str = "",
    ):
        self.image_px, self.patch_px = model.image_px, model.patch_px
        self.logit_scale, self.seen_names = model.logit_scale, model.seen_names
        self.mean, self.std = _normalisation(model, normalisation)
        self.read_out = model.readout or f"{model.kind} student"
        self._affinity = model.affinity.config.family if model.affinity else ""
        forward, weights = build_forward(model, self.mean, self.std, positions, dtype)
        devices = devices or list(jax.device_put(0).devices())
        per_device = 1 if devices[0].platform == "cpu" else _ACCELERATOR_WINDOWS
        self.windows_per_call = per_device * len(devices)
        mesh = Mesh(np.array(devices), ("windows",))
        self._split = jax.sharding.NamedSharding(mesh, P("windows"))
        self._weights = jax.device_put(weights, jax.sharding.NamedSharding(mesh, P()))
        encode = jax.shard_map(
            forward, mesh=mesh, in_specs=(P(), P("windows")), out_specs=P("windows"),
            check_vma=False,
        )  # fmt: skip
        self._encode: Callable[..., Encoded]
        if len(devices) == 1:
            about = describe_forward(model, self.mean, self.std, positions, dtype)
            self._encode = Program(encode, about=about)
        else:
            self._encode = jax.jit(encode)

    def encode(self, windows: np.ndarray) -> Encoded:
        """See Segmenter."""
        return self._encode(self._weights, jax.device_put(windows, self._split))

    def score(self, encoded: Encoded, classes: ClassVectors, preset: Preset) -> Scored:
        """See Segmenter."""
        table = score_windows(
            encoded._replace(segment_ids=None),
            classes.vectors,
            np.int32(len(classes.class_ids)),
            np.int32(classes.background),
            np.float32(choose_scale(preset, self.logit_scale)),
            np.float32(preset.threshold),
            naming=preset.naming,
            image_filter=preset.image_filter,
            topk=preset.topk,
            window_rule=bool(preset.threshold) and preset.threshold_rule == "window",
            has_background=bool(classes.background),
        )
        return Scored(table, encoded.segment_ids)

    def describe(self, preset: Preset) -> dict[str, Any]:
        """See Segmenter."""
        scale = choose_scale(preset, self.logit_scale)
        second = {"affinity": self._affinity} if self._affinity else {}
        return {
            "read_out": self.read_out,
            **second,
            "mean": self.mean,
            "std": self.std,
            "logit_scale": round(scale, 4),
        }

    def checksum(self) -> int:
        """Return the CRC of all weights."""
        total = 0
        for leaf in jax.tree.leaves(self._weights):
            total = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, total)
        return total


def build_forward(
    model: Model,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    positions: str = "size",
    dtype: str = "",
) -> tuple[Forward, Any]:
    """Return encode(weights, windows), pure, and the weights it needs.

    Args:
      model: from model.load.
      mean, std: normalisation of RGB in [0, 1].
      positions: "size" or "scale"; see Preset.
      dtype: dtype of the matrix products; "" for the model's own.
    """
    compute = jnp.dtype(dtype or "float32")

    def normalise(windows: Array) -> Array:
        return (windows / 255 - jnp.array(mean)) / jnp.array(std)

    if model.config is None:
        tower = _adapt(model.teacher.tower, positions, dtype)
        affinity = None
        if model.affinity is not None:
            lent = model.affinity.lend_affinity(mean, std)
            affinity = lent.replace(tower=_adapt(lent.tower, positions, dtype))
        check_readout(model.readout, affinity is not None)

        def encode_readout(weights: Any, windows: Array) -> Encoded:
            params, second = weights
            return _as_rows(read_out(tower, params, normalise(windows), model.readout, second))

        return encode_readout, (model.params, affinity)
    if model.kind == "clip_zss":
        dense = build_dense_student(model.config.model, model.config.clip_zss.student, compute)
        # The synthesizer is used in training only.
        weights = {name: part for name, part in model.params.items() if name != "synthesizer"}

        def encode_dense(weights: Any, windows: Array) -> Encoded:
            return _as_rows(apply_dense(dense, weights, normalise(windows)))

        return encode_dense, weights
    student = build_student(model.config.model, compute)

    def encode_student(weights: Any, windows: Array) -> Encoded:
        outputs = apply_segment(student, weights, normalise(windows))
        _, height, width, _ = windows.shape
        segment_ids = choose_segments(outputs.maps, (height, width))
        return Encoded(unit(outputs.segments), unit(outputs.global_feature), segment_ids)

    return encode_student, model.params


def describe_forward(
    model: Model, mean: tuple[float, ...], std: tuple[float, ...], positions: str, dtype: str
) -> str:
    """Return the text of all that build_forward's function depends on; see Program."""
    parts: list[Any] = [model.kind, mean, std, positions, dtype]
    if model.config is None:
        parts += [model.readout, model.teacher.config, model.teacher.dtype]
        if second := model.affinity:
            parts += [second.config, second.dtype, second.mean, second.std]
    else:
        parts += [model.config.model, model.config.clip_zss.student]
    return repr(parts)


def choose_scale(preset: Preset, logit_scale: float) -> float:
    """Return the factor of cosines: the preset's, or the model's own."""
    return preset.logit_scale or logit_scale


def choose_devices(count: int) -> list[jax.Device]:
    """Return this host's first `count` devices; 0: every accelerator, or one CPU.

    Raises:
      ValueError: more devices than there are.
    """
    devices = jax.local_devices()
    if not count:
        return devices[:1] if devices[0].platform == "cpu" else devices
    if count > len(devices):
        raise ValueError(
            f"--devices: {count} is more than the {len(devices)} devices here; use 0 for all."
        )
    return devices[:count]


def _adapt(tower: VisionTower, positions: str, dtype: str) -> VisionTower:
    """Return a tower of this dtype, with DINO's rule of positions if its own is bicubic too."""
    if positions == "scale" and tower.family.positions == "cubic":
        tower = tower.clone(by_scale=True)
    return tower.clone(dtype=jnp.dtype(dtype)) if dtype else tower


def _as_rows(features: Array) -> Encoded:
    """Pack patch features (n, h, w, E)."""
    return Encoded(unit(features.reshape(len(features), -1, features.shape[-1])), None, None)


def _normalisation(model: Model, normalisation: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = {
        "model": model.normalisation,
        "clip": (CLIP_MEAN, CLIP_STD),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    }
    mean, std = known[normalisation]
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)
