"""The train state, how it is born, and the random streams."""

from __future__ import annotations

import zlib
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from zeroseg_jax.config import Config
from zeroseg_jax.models import student as students


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds: int32 step, float32 params, optimizer state."""

    step: jax.Array
    params: Any
    opt_state: Any


def begin_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state of step 0."""
    return TrainState(jnp.int32(0), params, optimizer.init(params))


def stream(seed: int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """Return the random key of a named stream at a step; nothing needs saving."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


def init_params(
    config: Config,
    student: students.Student,
    *,
    vision_params: Any = None,
    feature_mean: jax.Array | None = None,
) -> Any:
    """Draw ZeroSeg's float32 parameters of step 0.

    Args:
      config: seed, sizes, encoder.init.
      student: the module.
      vision_params: the teacher's tower, where encoder.init is "teacher".
      feature_mean: float32 (E,), where loss.centre.
    """
    params = students.init_params(student, stream(config.run.seed, "params"))
    if feature_mean is not None:
        params = students.set_feature_mean(params, feature_mean)
    if vision_params is not None:
        params = students.init_from_teacher(params, vision_params, config.model)
    return params
