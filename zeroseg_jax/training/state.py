"""The train state, how it is born, and the random streams."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from zeroseg_jax.config import Config

if TYPE_CHECKING:
    from zeroseg_jax.training.objective import Objective


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds: int32 step, float32 params, optimizer state, and what the
    objective remembers of past batches (None where it does not)."""

    step: jax.Array
    params: Any
    opt_state: Any
    memory: Any = None


def stream(seed: int, name: str, step: jax.Array | int = 0) -> jax.Array:
    """Return the random key of a named stream at a step; nothing needs saving."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


def init_state(
    config: Config, objective: Objective, optimizer: optax.GradientTransformation
) -> TrainState:
    """Draw the state of step 0.

    Args:
      config: the seed.
      objective: draws parameters and memory.
      optimizer: its state is made here.
    """
    params = objective.init_params(stream(config.run.seed, "params"))
    return TrainState(jnp.int32(0), params, optimizer.init(params), objective.init_memory())
