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
from zeroseg_jax.training.objective import Batch, Memory, Metrics, Objective, Params


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
    ) -> tuple[jax.Array, Metrics]:
        """Batch: "image" uint8 (B, Hpx, Wpx, 3) and "features" (B, V, E)."""
        del memory
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        outputs = students.apply_train(student, params, images, key=key)
        target = to_patches(images, config.model.encoder.patch_px)
        loss, metrics = losses.total_loss(
            outputs, target, batch["features"], config.loss, windows=windows
        )
        return loss.mean(), {name: value.mean() for name, value in metrics.items()}

    return Objective(init_params, loss_fn)
