"""Training step: loss, gradients, accumulation, update and metrics in one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from zeroseg_jax.config import Config
from zeroseg_jax.training import sharding, trees
from zeroseg_jax.training.objective import Batch, Metrics, Objective
from zeroseg_jax.training.optimizer import norms_by_part
from zeroseg_jax.training.state import TrainState, stream

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def build_step(
    config: Config,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    abstract_state: TrainState,
) -> Step:
    """Build the jitted step.

    Args:
      config: seed, optim.accumulate_steps and mesh.shard_optimizer.
      objective: loss and memory.
      optimizer: optimizer of the float32 parameters.
      mesh: mesh from sharding.build_mesh.
      abstract_state: shapes and shardings of the state, from sharding.shard_state.

    Returns:
      step(state, batch) -> (state, metrics). Metrics are float32 scalars; `finite` is 1 if all
      others are finite, else 0. The state passed in is donated.
    """
    evaluate = jax.value_and_grad(objective.loss_fn, has_aux=True)
    pieces = config.optim.accumulate_steps

    def _step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = stream(config.run.seed, "step", state.step)

        def evaluate_piece(piece: Batch, key: jax.Array) -> Any:
            # The attention kernel splits its rows over this mesh; see models/fused_attention.py.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return evaluate(state.params, piece, key, state.memory)

        (loss, found), grads = _accumulate(evaluate_piece, batch, key, pieces)
        params = state.params
        if config.mesh.shard_optimizer:
            # Gradients are scattered where they are summed; out_shardings gathers the result.
            grads, params = (sharding.split_update(tree, mesh) for tree in (grads, params))
        params, opt_state, norms = update(optimizer, grads, state.opt_state, params)
        # Running statistics are parameters, so that evaluation and exports read nothing else. Their
        # gradient is 0 and vectors are not decayed, so the optimizer has left them as they were.
        params = trees.replace(params, found.statistics)
        metrics = {"loss": loss, **found.metrics, **norms}
        finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
        metrics["finite"] = finite.astype(jnp.float32)
        memory = objective.update_memory(state.memory, batch)
        return TrainState(state.step + 1, params, opt_state, memory), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
    return jax.jit(
        _step,
        donate_argnums=0,
        in_shardings=(shardings, sharding.split(mesh)),
        out_shardings=(shardings, sharding.replicate(mesh)),
    )


def update(
    optimizer: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any, Metrics]:
    """Update the parameters.

    Args:
      optimizer: transformation that `opt_state` belongs to.
      grads: float32 gradients, with the tree of `params`.
      opt_state: state of the optimizer.
      params: float32 parameters.

    Returns:
      New parameters, new state, and the norms of gradients, change and new parameters.
    """
    updates, opt_state = optimizer.update(grads, opt_state, params)
    updated = optax.apply_updates(params, updates)
    # On TPUs the norm of `updates` would be one more pass over all parameters, a third of the
    # update's time; the norm of the difference is summed where the new parameters are written.
    change = jax.tree.map(jnp.subtract, updated, params)
    norms = norms_by_part(grads)
    norms |= {"update_norm": optax.global_norm(change), "param_norm": optax.global_norm(updated)}
    return updated, opt_state, norms


def _accumulate(
    evaluate: Callable[[Batch, jax.Array], Any], batch: Batch, key: jax.Array, pieces: int
) -> Any:
    """Return the mean of evaluate(piece, key) over the pieces of a batch."""
    if pieces == 1:
        return evaluate(batch, key)

    # Row r belongs to piece r % pieces, so that each device splits its own rows.
    def cut(rows: jax.Array) -> jax.Array:
        return rows.reshape(len(rows) // pieces, pieces, *rows.shape[1:]).swapaxes(0, 1)

    def add(total: Any, numbered: tuple[jax.Array, Batch]) -> tuple[Any, None]:
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
