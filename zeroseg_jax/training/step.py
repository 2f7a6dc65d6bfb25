"""One optimisation step, pure and jitted, for whatever objective it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import optax
from jax.sharding import Mesh

from zeroseg_jax.config import Config
from zeroseg_jax.training import sharding
from zeroseg_jax.training.optimizer import norms_by_part
from zeroseg_jax.training.state import TrainState, stream

if TYPE_CHECKING:
    from zeroseg_jax.training.objective import Objective

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


def build_step(
    config: Config, objective: Objective, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Step:
    """Build the jitted step.

    Args:
      config: the seed.
      objective: the loss, and what is remembered of a batch.
      optimizer: updates float32 params.
      mesh: see sharding.build_mesh.

    Returns:
      step(state, batch) -> (state, metrics): a batch is a dict of arrays with one row an image;
      metrics are float32 scalars. The state given is donated.
    """
    evaluate = jax.value_and_grad(objective.loss_fn, has_aux=True)

    def _step(state: TrainState, batch):
        key = stream(config.run.seed, "step", state.step)
        (loss, metrics), grads = evaluate(state.params, batch, key, state.memory)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **metrics, **norms_by_part(grads)}
        metrics["update_norm"] = optax.global_norm(updates)
        metrics["param_norm"] = optax.global_norm(params)
        memory = objective.remember(state.memory, batch)
        return TrainState(state.step + 1, params, opt_state, memory), metrics

    everywhere, split = sharding.replicate(mesh), sharding.split(mesh)
    return jax.jit(
        _step,
        donate_argnums=0,
        in_shardings=(everywhere, split),
        out_shardings=(everywhere, everywhere),
    )
