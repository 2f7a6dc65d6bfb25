"""One optimisation step, pure and jitted, for whatever loss it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from zeroseg_jax import losses
from zeroseg_jax.config import Config, grid_windows
from zeroseg_jax.models import student as students
from zeroseg_jax.models.layers import to_patches
from zeroseg_jax.training import sharding
from zeroseg_jax.training.optimizer import norms_by_part
from zeroseg_jax.training.state import TrainState, stream

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
LossFn = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Metrics]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def build_loss(config: Config, student: students.Student) -> LossFn:
    """Build ZeroSeg's loss.

    Args:
      config: losses, normalisation, grids.
      student: the module.

    Returns:
      loss_fn(params, batch, key) -> (loss, metrics), float32 scalars, means over images: batch
      has "image" uint8 (B, Hpx, Wpx, 3) and "features" (B, V, E).
    """
    mean = jnp.array(config.data.mean, jnp.float32)
    std = jnp.array(config.data.std, jnp.float32)
    patch = config.model.encoder.patch_px
    windows = grid_windows(config.teacher.grids, config.teacher.overlap)

    def loss_fn(params, batch, key):
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        outputs = students.apply_train(student, params, images, key=key)
        target = to_patches(images, patch)
        loss, metrics = losses.total_loss(
            outputs, target, batch["features"], config.loss, windows=windows
        )
        return loss.mean(), {name: value.mean() for name, value in metrics.items()}

    return loss_fn


def build_step(
    config: Config,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    state: TrainState,
) -> Step:
    """Build the jitted step.

    Args:
      config: seed, optim.accumulate_steps.
      loss_fn: the mean over images of a batch, and metrics that are such means; a batch is a
        dict of arrays with one row an image.
      optimizer: updates float32 params.
      mesh: see sharding.build_mesh.
      state: the state's shapes and shardings, see sharding.shard_state.

    Returns:
      step(state, batch) -> (state, metrics), metrics float32 scalars, among them `finite`: 1
      where every other one is. The state given is donated.
    """
    evaluate = jax.value_and_grad(loss_fn, has_aux=True)
    pieces = config.optim.accumulate_steps

    def _step(state: TrainState, batch: Batch):
        key = stream(config.run.seed, "step", state.step)
        (loss, metrics), grads = _accumulate(evaluate, state.params, batch, key, pieces)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **metrics, **norms_by_part(grads)}
        metrics["update_norm"] = optax.global_norm(updates)
        metrics["param_norm"] = optax.global_norm(params)
        finite = jnp.isfinite(jnp.stack(list(metrics.values()))).all()
        metrics["finite"] = finite.astype(jnp.float32)
        return TrainState(state.step + 1, params, opt_state), metrics

    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(
        _step,
        donate_argnums=0,
        in_shardings=(places, sharding.split(mesh)),
        out_shardings=(places, sharding.replicate(mesh)),
    )


def _accumulate(evaluate, params, batch: Batch, key: jax.Array, pieces: int):
    """Return the mean of evaluate(params, piece, key) over the pieces of a batch."""
    if pieces == 1:
        return evaluate(params, batch, key)

    # Row r goes to piece r % pieces, so that each device cuts up its own rows.
    def cut(rows):
        return rows.reshape(len(rows) // pieces, pieces, *rows.shape[1:]).swapaxes(0, 1)

    def add(total, numbered):
        number, piece = numbered
        result = evaluate(params, piece, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, result), None

    parts = jax.tree.map(cut, batch)
    first = jax.tree.map(lambda rows: rows[0], parts)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, params, first, key)
    )
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(pieces), parts))
    return jax.tree.map(lambda leaf: leaf / pieces, total)
