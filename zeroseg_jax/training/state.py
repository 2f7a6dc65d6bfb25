"""TrainState, its initialisation, and named random streams."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp

from zeroseg_jax.config import Config
from zeroseg_jax.training.objective import Objective

if TYPE_CHECKING:  # checkpoints are read without it
    import optax


@flax.struct.dataclass
class TrainState:
    """State of training, saved as a checkpoint.

    Attributes:
      step: int32 scalar, number of updates.
      params: float32 parameters.
      opt_state: state of the optimizer.
      memory: memory of past batches, see Objective; None for a method without one.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    memory: Any = None


def stream(seed: jax.Array | int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """Return the random key of a named stream at a step; it is derived, so nothing is saved."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


def init_state(
    config: Config, objective: Objective, optimizer: optax.GradientTransformation
) -> TrainState:
    """Return the state at step 0.

    Args:
      config: settings with the seed.
      objective: initialisers of parameters and memory.
      optimizer: optimizer whose state is initialised.
    """
    params = objective.init_params(stream(config.run.seed, "params"))
    return TrainState(jnp.int32(0), params, optimizer.init(params), objective.init_memory())
