"""ZeroSeg objective: student, teacher features and losses put together for the loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.models.layers import to_patches
from zeroseg_jax.models.zeroseg import losses
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.training.inputs import Inputs
from zeroseg_jax.training.objective import Batch, Findings, Memory, Objective, Params

# Mean number of segments in use, or of different matches, under which segments have collapsed.
_FEW = 1.5


def build(config: Config, teacher: Teacher, inputs: Inputs) -> Objective:
    """Build the objective of a run.

    Args:
      config: settings of the run.
      teacher: frozen CLIP; its vision tower initialises the encoder (model.encoder.init).
      inputs: training set; its mean feature initialises g and z (loss.centre).

    Raises:
      ValueError: a field of model.encoder differs from the teacher's tower.
    """
    feature_mean = inputs.feature_mean() if config.loss.centre else None
    tower = teacher.vision_params if config.model.encoder.init == "teacher" else None
    return _build(config, feature_mean, tower)


def check_start(config: Config, teacher: Teacher) -> None:
    """Refuse a teacher whose vision tower cannot initialise the encoder; computes no weights.

    Raises:
      ValueError: see build.
    """
    tower = teacher.vision_params if config.model.encoder.init == "teacher" else None
    jax.eval_shape(_build(config, None, tower).init_params, jax.random.key(0))


def build_abstract(config: Config) -> Objective:
    """Build the objective without teacher and data; its parameters start at random values."""
    return _build(config, None, None)


def _build(
    config: Config, feature_mean: np.ndarray | None, vision_params: dict[str, Any] | None
) -> Objective:
    student = students.build_student(
        config.model,
        jnp.dtype(config.run.dtype),
        remat=config.run.remat,
        attention=config.run.attention,
        scan=config.run.scan_blocks,
    )
    mean = jnp.array(config.data.mean, jnp.float32)
    std = jnp.array(config.data.std, jnp.float32)
    windows = list_windows(config)

    def init_params(key: jax.Array) -> Params:
        params = students.init_params(student, key)
        if feature_mean is not None:
            params = students.set_feature_mean(params, feature_mean)
        if vision_params is not None:
            params = students.init_from_teacher(params, vision_params, config.model)
        return params

    def loss_fn(
        params: Params, batch: Batch, key: jax.Array, memory: Memory
    ) -> tuple[jax.Array, Findings]:
        """Batch: "image" uint8 (B, Hpx, Wpx, 3), "features" (B, V, E); loss.dense: "dense"."""
        del memory
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        outputs = students.apply_train(student, params, images, key=key)
        target = to_patches(images, config.model.encoder.patch_px)
        loss, metrics = losses.total_loss(
            outputs,
            target,
            batch["features"],
            config.loss,
            windows=windows,
            dense=batch["dense"] if config.loss.dense else None,
        )
        return loss.mean(), Findings({name: value.mean() for name, value in metrics.items()})

    def diagnose(metrics: dict[str, float]) -> str:
        return describe_collapse(metrics, config)

    return Objective(init_params, loss_fn, diagnose=diagnose)


def describe_collapse(metrics: dict[str, float], config: Config) -> str:
    """Describe segments that have become one, with the settings that prevent it.

    Args:
      metrics: values of a step, means over its images: segments_used, distinct_matches,
        segment_cosine.
      config: settings of the run.

    Returns:
      One sentence; "" where the segments differ.
    """
    head, loss = config.model.head, config.loss
    used, matches = metrics["segments_used"], metrics["distinct_matches"]
    matched = loss.matching and len(config.teacher.grids) > 1
    few, alike = used < _FEW, bool(matched) and matches < _FEW
    if head.segment_tokens[-1] == 1 or not (few or alike):
        return ""
    remedies = []
    if few and head.grouping == "learned" and head.scores == "raw":
        remedies.append("model.head.scores=standardised")
    if alike and loss.matching_mode == "nearest":
        remedies.append("loss.matching_mode=located")
    remedies.append("--config=zeroseg_stable" if remedies else "a lower optim.base_rate")
    return (
        f"segments have collapsed: {used:.1f} of {head.segment_tokens[-1]} in use, "
        f"{matches:.1f} different matches, mean cosine {metrics['segment_cosine']:.3f} between "
        f"them; use {' or '.join(remedies)}."
    )
