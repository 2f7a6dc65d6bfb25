"""AdamW with MAE's linear learning-rate rule, warm-up, cosine or polynomial decay."""

from __future__ import annotations

from typing import Any

import jax
import optax

from zeroseg_jax.config import Config
from zeroseg_jax.training import trees

# The first match wins. Leaves with one dimension are never decayed, whatever their names.
_DECAY_RULES = ((r"token|positions", False), (r".*", True))
# Leaves whose learning rate is multiplied by optim.encoder_rate_scale.
_ENCODER_RULES = ((r"^(encoder|region_projection)/", True), (r".*", False))
_POLY_POWER = 0.9
_MAX_STEPS = 2**31 - 1


def count_steps(config: Config, images: int) -> int:
    """Return the number of steps: optim.steps, or optim.epochs over `images`.

    Raises:
      ValueError: more steps than the counter of the train state, int32, can hold.
    """
    optim = config.optim
    steps = optim.steps or max(1, int(optim.epochs * images) // optim.batch_global)
    if steps > _MAX_STEPS:
        raise ValueError(
            f"optim.epochs: {optim.epochs:g} over {images} images are {steps} steps, more than "
            f"{_MAX_STEPS}; lower it or set optim.steps."
        )
    return steps


def build_schedule(config: Config, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step: warm-up from 0, then decay to 0."""
    optim = config.optim
    peak = optim.base_rate * optim.batch_global / 256
    warmup = int(optim.warmup_fraction * steps)
    if optim.schedule == "poly_from_start":
        decay = optax.polynomial_schedule(1.0, 0.0, _POLY_POWER, steps)
        rise = optax.linear_schedule(0.0 if warmup else peak, peak, warmup)
        return lambda step: rise(step) * decay(step)
    if optim.schedule == "poly":
        fall = optax.polynomial_schedule(peak, 0.0, _POLY_POWER, max(steps - warmup, 1))
        return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), fall], [warmup])
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, warmup, steps)


def build_optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """Return AdamW with clipping, the decay mask and the encoder's learning-rate scale."""
    optim = config.optim
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    parts.append(
        optax.adamw(
            build_schedule(config, steps),
            b1=optim.b1,
            b2=optim.b2,
            weight_decay=optim.weight_decay,
            mask=decay_mask,
            # None keeps the parameters' float32, and the state's tree as it was.
            mu_dtype=None if optim.first_moment == "float32" else optim.first_moment,
        )
    )
    if optim.encoder_rate_scale != 1.0:
        parts.append(optax.masked(optax.scale(optim.encoder_rate_scale), _encoder_mask))
    return optax.chain(*parts)


def decay_mask(params: Any) -> Any:
    """Return True for each leaf with weight decay: matrices, except tokens and positions."""
    return trees.map_named(
        lambda name, leaf: leaf.ndim > 1 and trees.first_match(_DECAY_RULES, name), params
    )


def _encoder_mask(params: Any) -> Any:
    return trees.map_named(lambda name, _: trees.first_match(_ENCODER_RULES, name), params)


def norms_by_part(grads: dict[str, Any]) -> dict[str, jax.Array]:
    """Return the global norm of the gradients, and the norm of each part of the student."""
    norms = {f"grad_norm_{name}": optax.global_norm(part) for name, part in grads.items()}
    return {"grad_norm": optax.global_norm(grads), **norms}
