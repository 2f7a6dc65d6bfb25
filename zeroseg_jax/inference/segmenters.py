"""What can be evaluated window by window: a student, a dense read-out of its teacher, or chance.

A model's answer to a window must not depend on how many windows it is asked about at once. XLA
may add in another order for another shape, and a near tie would flip. So one compiled shape does
all the work, UNIT windows on each device, whatever the batch: incomplete units are padded and the
padding is dropped.
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

from zeroseg_jax.config import Config
from zeroseg_jax.inference import scoring as assign
from zeroseg_jax.inference.canvas import Scored
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.ranking import Rule
from zeroseg_jax.models.clip_zss import student as dense
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher.clip import VisionTower
from zeroseg_jax.teacher.load import CLIP_MEAN, CLIP_STD
from zeroseg_jax.teacher.readouts import read_out

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BLOCK_PX = 16
_MOST_SCALE = 100.0


class Segmenter(Protocol):
    """A model with words, under a preset.

    Attributes:
      native_px: side of the windows it was trained on.
      patch_px: windows are multiples of it.
      unit: windows of one call of `score`.
      rule: how its scores become labels.
      facts: what a report should say of it, for example its normalisation.
    """

    native_px: int
    patch_px: int
    unit: int
    rule: Rule
    facts: dict[str, Any]

    def score(self, windows: np.ndarray) -> Scored:
        """Score windows float32 (unit, H, W, 3) of levels in [0, 255]; may not wait for it."""


class StudentSegmenter:
    """A trained student with words.

    Args:
      params, config: of the student.
      text: float32 (K, E), unit rows, the preset's background words last.
      preset: the protocol.
      logit_scale: the teacher's, where the preset has none.
      owners: int (K,), the class of each row where classes have several; None: a row each.
      devices: that share the work; None for one.
    """

    def __init__(
        self,
        params: Any,
        config: Config,
        text: np.ndarray,
        preset: Preset,
        logit_scale: float,
        *,
        owners: np.ndarray | None = None,
        devices: list[jax.Device] | None = None,
    ):
        self.native_px = config.model.image_px
        self.patch_px = config.model.encoder.patch_px
        student = students.build_student(config.model)
        mean, std = _normalisation(preset, config.data.mean, config.data.std)
        scale = _scale(preset, logit_scale)
        self.rule = build_rule(preset, scale, len(text), owners)
        self.facts = {"mean": mean, "std": std, "logit_scale": round(scale, 4)}

        def score(constants, window):
            weights, text = constants
            pixels = (window / 255 - jnp.array(mean)) / jnp.array(std)
            outputs = students.apply_segment(student, weights, pixels)
            winners = assign.choose_segments(outputs.maps, window.shape[1:3])
            if preset.naming == "pixels":
                return assign.cosines(outputs.segments, text), winners
            scores = assign.score_segments(
                outputs, text, scale=scale, image_filter=preset.image_filter, topk=preset.topk
            )
            return _add_background(scores, preset), winners

        constants = (params, jnp.asarray(text))
        self._score, self.unit = _compile(score, constants, devices)

    def score(self, windows: np.ndarray) -> Scored:
        """See Segmenter."""
        return Scored(*self._score(windows))


class _PatchSegmenter:
    """Every patch is a segment of its own; `embed` gives (B, h, w, E) of pixels."""

    def __init__(
        self,
        embed: Callable[[Any, jax.Array], jax.Array],
        weights: Any,
        normalisation: tuple[Any, Any],
        scale: float,
        text: np.ndarray,
        preset: Preset,
        owners: np.ndarray | None,
        devices: list[jax.Device] | None,
    ):
        scale = _scale(preset, scale)
        mean, std = _normalisation(preset, *normalisation)
        self.rule = build_rule(preset, scale, len(text), owners)
        self.facts = {"mean": mean, "std": std, "logit_scale": round(scale, 4)}

        def score(constants, window):
            weights, text = constants
            features = embed(weights, (window / 255 - jnp.array(mean)) / jnp.array(std))
            features = features.reshape(len(window), -1, features.shape[-1])
            scores = assign.cosines(features, text)
            if preset.naming == "segments":
                scores = _add_background(jax.nn.softmax(scale * scores, axis=-1), preset)
            return scores

        self._score, self.unit = _compile(score, (weights, jnp.asarray(text)), devices)

    def score(self, windows: np.ndarray) -> Scored:
        """See Segmenter."""
        return Scored(self._score(windows), None)


class DenseSegmenter(_PatchSegmenter):
    """A dense read-out of the teacher."""

    def __init__(
        self,
        teacher: Teacher,
        readout: str,
        native_px: int,
        text: np.ndarray,
        preset: Preset,
        *,
        owners: np.ndarray | None = None,
        devices: list[jax.Device] | None = None,
    ):
        self.native_px, self.patch_px = native_px, teacher.patch_px
        tower = VisionTower(teacher.config, teacher.dtype)
        super().__init__(
            lambda weights, pixels: read_out(tower, weights, pixels, readout),
            teacher.vision_params, (teacher.mean, teacher.std), teacher.logit_scale,
            text, preset, owners, devices,
        )  # fmt: skip


class DenseStudentSegmenter(_PatchSegmenter):
    """A CLIP-ZSS student: its encoder and words, nothing else.

    Under the naming "pixels" cosines are enlarged before the softmax, as in training.

    Source: CLIP-ZSS (arXiv 2310.02296), inference.
    """

    def __init__(
        self,
        params: Any,
        config: Config,
        text: np.ndarray,
        preset: Preset,
        *,
        owners: np.ndarray | None = None,
        devices: list[jax.Device] | None = None,
    ):
        self.native_px = config.model.image_px
        self.patch_px = dense.cell_px(config.model, config.clip_zss.student)
        student = dense.build_dense_student(config.model, config.clip_zss.student)
        # The synthesizer works in training only.
        weights = {name: part for name, part in params.items() if name != "synthesizer"}
        super().__init__(
            lambda weights, pixels: dense.apply_dense(student, weights, pixels),
            weights, (config.data.mean, config.data.std), config.clip_zss.loss.seen_scale,
            text, preset, owners, devices,
        )  # fmt: skip


class ChanceSegmenter:
    """A class drawn evenly for each block of 16 x 16 px; the same for the same picture."""

    def __init__(self, classes: int, has_background: bool, native_px: int):
        self.native_px, self.patch_px, self.unit = native_px, 1, 1
        self.facts: dict[str, Any] = {}
        self.rule = Rule(np.arange(classes + int(has_background), dtype=np.int32))

    def score(self, windows: np.ndarray) -> Scored:
        """See Segmenter."""
        _, height, width, _ = windows.shape
        classes = len(self.rule.labels)
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(windows)))
        blocks = rng.integers(classes, size=(-(-height // _BLOCK_PX), -(-width // _BLOCK_PX)))
        drawn = blocks.repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)[:height, :width]
        return Scored(np.eye(classes, dtype=np.float32)[None], drawn[None])


def build_rule(preset: Preset, scale: float, rows: int, owners: np.ndarray | None) -> Rule:
    """Say how scores of this preset become labels.

    Args:
      preset: the protocol.
      scale: of the logits.
      rows: K, embedded words, the background's last.
      owners: int (K,), the class of each; None: each its own.

    Returns:
      The rule. Label 0 is background where the preset has a rule for it.
    """
    background = len(preset.background_words)
    constant = preset.threshold if preset.threshold_rule == "constant" else 0.0
    if preset.naming == "segments":
        # Words and the window's rule have put a column in front already.
        front = bool(background or (preset.threshold and not constant))
        labels = np.arange(rows - background + front, dtype=np.int32)
        return Rule(labels if front or not constant else labels + 1, threshold=constant)
    owners = np.arange(rows) if owners is None else np.asarray(owners)
    labels = owners + int(preset.names_background)
    if background:
        labels[-background:] = 0
    return Rule(labels.astype(np.int32), scale, constant)


def choose_devices(count: int) -> list[jax.Device]:
    """Return this host's first `count` devices; 0: every accelerator, or one CPU.

    Raises:
      ValueError: more than there are.
    """
    devices = jax.local_devices()
    if not count:
        return devices[:1] if devices[0].platform == "cpu" else devices
    if count > len(devices):
        raise ValueError(
            f"--devices: {count} devices, but {len(devices)} are there; use 0 for all of them."
        )
    return devices[:count]


def _compile(
    score: Callable, constants: Any, devices: list[jax.Device] | None
) -> tuple[Callable, int]:
    devices = devices or jax.local_devices()[:1]
    # One window fills a CPU's cores; an accelerator wants more at once.
    per_device = 1 if devices[0].platform == "cpu" else 8
    mesh = Mesh(np.array(devices), ("windows",))
    split = jax.sharding.NamedSharding(mesh, P("windows"))
    placed = jax.device_put(constants, jax.sharding.NamedSharding(mesh, P()))
    spread = jax.jit(
        jax.shard_map(
            score, mesh=mesh, in_specs=(P(), P("windows")), out_specs=P("windows"), check_vma=False
        )
    )

    def call(windows: np.ndarray) -> Any:
        return spread(placed, jax.device_put(windows, split))

    return call, per_device * len(devices)


def _scale(preset: Preset, logit_scale: float) -> float:
    return min(preset.logit_scale or logit_scale, _MOST_SCALE)


def _normalisation(preset: Preset, mean: Any, std: Any) -> tuple[tuple, tuple]:
    known = {
        "model": (mean, std),
        "clip": (CLIP_MEAN, CLIP_STD),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    }
    mean, std = known[preset.normalisation]
    return tuple(float(v) for v in mean), tuple(float(v) for v in std)


def _add_background(scores: jax.Array, preset: Preset) -> jax.Array:
    if preset.background_words:
        return assign.merge_background(scores, len(preset.background_words))
    if preset.threshold and preset.threshold_rule == "window":
        return assign.add_background(scores, preset.threshold)
    return scores
