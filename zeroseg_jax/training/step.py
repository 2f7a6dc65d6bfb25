"""One optimisation step, pure and jitted, for whatever loss it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from zeroseg_jax.config import Config
from zeroseg_jax.training import sharding
from zeroseg_jax.training.optimizer import norms_by_part
from zeroseg_jax.training.state import TrainState, stream

if TYPE_CHECKING:
    from zeroseg_jax.training.objective import Objective

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def build_step(
    config: Config,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: TrainState,
) -> Step:
    """Build the jitted step.

    Args:
      config: seed, optim.accumulate_steps.
      objective: the loss, and what is remembered of a batch.
      optimizer: updates float32 params.
      mesh: see sharding.build_mesh.
      state: the state's shapes and shardings, see sharding.shard_state.

    Returns:
      step(state, batch) -> (state, metrics), metrics float32 scalars, among them `finite`: 1
      where every other one is. The state given is donated.
    """
    evaluate = jax.value_and_grad(objective.loss_fn, has_aux=True)
    pieces = config.optim.accumulate_steps

    def _step(state: TrainState, batch: Batch):
        key = stream(config.run.seed, "step", state.step)

        def evaluate_piece(piece, key):
            return evaluate(state.params, piece, key, state.memory)

        (loss, metrics), grads = _accumulate(evaluate_piece, batch, key, pieces)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **metrics, **norms_by_part(grads)}
        metrics["update_norm"] = optax.global_norm(updates)
        metrics["param_norm"] = optax.global_norm(params)
        finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
        metrics["finite"] = finite.astype(jnp.float32)
        memory = objective.remember(state.memory, batch)
        return TrainState(state.step + 1, params, opt_state, memory), metrics

    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(
        _step,
        donate_argnums=0,
        in_shardings=(places, sharding.split(mesh)),
        out_shardings=(places, sharding.replicate(mesh)),
    )


def _accumulate(evaluate, batch: Batch, key: jax.Array, pieces: int):
    """Return the mean of evaluate(piece, key) over the pieces of a batch."""
    if pieces == 1:
        return evaluate(batch, key)

    # Row r goes to piece r % pieces, so that each device cuts up its own rows.
    def cut(rows):
        return rows.reshape(len(rows) // pieces, pieces, *rows.shape[1:]).swapaxes(0, 1)

    def add(total, numbered):
        number, piece = numbered
        result = evaluate(piece, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, result), None

    parts = jax.tree.map(cut, batch)
    first = jax.tree.map(lambda rows: rows[0], parts)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, first, key)
    )
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(pieces), parts))
    return jax.tree.map(lambda leaf: leaf / pieces, total)
