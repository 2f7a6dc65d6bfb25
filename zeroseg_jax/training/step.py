"""One optimisation step, pure and jitted."""

from __future__ import annotations

from collections.abc import Callable

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

Step = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


def build_step(
    config: Config, student: students.Student, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Step:
    """Build the jitted step.

    Args:
      config: losses, normalisation, grids, seed.
      student: the module.
      optimizer: updates float32 params.
      mesh: see sharding.build_mesh.

    Returns:
      step(state, batch) -> (state, metrics): batch has "image" uint8 (B, Hpx, Wpx, 3) and
      "features" (B, V, E); metrics are float32 scalars. The state given is donated.
    """
    mean = jnp.array(config.data.mean, jnp.float32)
    std = jnp.array(config.data.std, jnp.float32)
    patch = config.model.encoder.patch_px
    windows = grid_windows(config.teacher.grids, config.teacher.overlap)

    def loss_fn(params, images, features, key):
        outputs = students.apply_train(student, params, images, key=key)
        target = to_patches(images, patch)
        loss, metrics = losses.total_loss(outputs, target, features, config.loss, windows=windows)
        return loss.mean(), {name: value.mean() for name, value in metrics.items()}

    def _step(state: TrainState, batch):
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        key = stream(config.run.seed, "step", state.step)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, images, batch["features"], key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, **metrics, **norms_by_part(grads)}
        metrics["update_norm"] = optax.global_norm(updates)
        metrics["param_norm"] = optax.global_norm(params)
        return TrainState(state.step + 1, params, opt_state), metrics

    everywhere, split = sharding.replicate(mesh), sharding.split(mesh)
    return jax.jit(
        _step,
        donate_argnums=0,
        in_shardings=(everywhere, split),
        out_shardings=(everywhere, everywhere),
    )
