"""What a run learns: the parts of the one training loop that differ between methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zeroseg_jax.config import Config
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.models.layers import to_patches
from zeroseg_jax.models.zeroseg import losses
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.training import clip_zss as objective_zss
from zeroseg_jax.training.inputs import Inputs

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A method, as the loop sees it.

    Attributes:
      init_params: key to float32 parameters; traced.
      loss_fn: (params, batch, key, memory) to the loss and metrics, float32 scalars, means over
        images. A batch is a dict of arrays with one row an image.
      init_memory: what is remembered of past batches at the start; None for nothing. Traced.
      remember: (memory, batch) to the memory of the next step.
    """

    init_params: Callable[[jax.Array], Any]
    loss_fn: Callable[[Any, Batch, jax.Array, Any], tuple[jax.Array, Metrics]]
    init_memory: Callable[[], Any] = lambda: None
    remember: Callable[[Any, Batch], Any] = lambda memory, batch: memory


def build_objective(config: Config, teacher: Teacher, inputs: Inputs) -> Objective:
    """Build what a run of `config` learns.

    Raises:
      ValueError: a teacher, words or weights to start from that do not fit the config.
    """
    if config.objective == "clip_zss":
        parts = objective_zss.build(config, teacher, inputs.seen_words)
        return Objective(parts.init_params, parts.loss_fn, parts.init_memory, parts.remember)
    feature_mean = inputs.feature_mean() if config.loss.centre else None
    tower = teacher.vision_params if config.model.encoder.init == "teacher" else None
    return build_zeroseg(config, feature_mean=feature_mean, vision_params=tower)


def build_abstract(config: Config) -> Objective:
    """Build what a run learns for its shapes alone: no teacher, no words, no weights to read.

    CLIP-ZSS is given as many seen classes as the largest published split has.
    """
    if config.objective == "clip_zss":
        parts = objective_zss.build_abstract(config)
        return Objective(parts.init_params, parts.loss_fn, parts.init_memory, parts.remember)
    return build_zeroseg(config)


def build_zeroseg(
    config: Config, *, feature_mean: Any = None, vision_params: Any = None
) -> Objective:
    """Build ZeroSeg.

    Args:
      config: sizes, losses, normalisation, grids, compute dtype, remat, scan_blocks.
      feature_mean: float32 (E,), where loss.centre.
      vision_params: the teacher's tower, where encoder.init is "teacher".

    Returns:
      The objective; a batch has "image" uint8 (B, Hpx, Wpx, 3) and "features" (B, V, E).
    """
    student = students.build_student(
        config.model,
        jnp.dtype(config.run.dtype),
        remat=config.run.remat,
        scan=config.run.scan_blocks,
    )
    mean = jnp.array(config.data.mean, jnp.float32)
    std = jnp.array(config.data.std, jnp.float32)
    windows = list_windows(config)

    def init_params(key):
        params = students.init_params(student, key)
        if feature_mean is not None:
            params = students.set_feature_mean(params, feature_mean)
        if vision_params is not None:
            params = students.init_from_teacher(params, vision_params, config.model)
        return params

    def loss_fn(params, batch, key, memory):
        del memory
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        outputs = students.apply_train(student, params, images, key=key)
        target = to_patches(images, config.model.encoder.patch_px)
        loss, metrics = losses.total_loss(
            outputs, target, batch["features"], config.loss, windows=windows
        )
        return loss.mean(), {name: value.mean() for name, value in metrics.items()}

    return Objective(init_params, loss_fn)
