"""AdamW as MAE uses it: linear rate rule, warm-up, half cosine to zero."""

from __future__ import annotations

import jax
import optax

from zeroseg_jax.config import Config
from zeroseg_jax.training import trees as paths

# First match wins; 1-D leaves are never decayed, whatever their name.
_DECAY_RULES = ((r"token|positions", False), (r".*", True))

_POLY_POWER = 0.9


def count_steps(config: Config, images: int) -> int:
    """Return the steps of the run: optim.steps, or its epochs over `images`."""
    optim = config.optim
    return optim.steps or max(1, int(optim.epochs * images) // optim.batch_global)


def build_schedule(config: Config, steps: int) -> optax.Schedule:
    """Return the learning rate at each step: warm-up from 0, then a fall to 0."""
    optim = config.optim
    peak = optim.base_rate * optim.batch_global / 256
    warmup = int(optim.warmup_fraction * steps)
    if optim.schedule == "poly":
        fall = optax.polynomial_schedule(peak, 0.0, _POLY_POWER, max(steps - warmup, 1))
        return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), fall], [warmup])
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else peak, peak, warmup, steps)


def build_optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """Return AdamW with the decay mask, clipping and the encoder's own rate."""
    optim = config.optim
    parts = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    parts.append(
        optax.adamw(
            build_schedule(config, steps),
            b1=optim.b1,
            b2=optim.b2,
            weight_decay=optim.weight_decay,
            mask=decay_mask,
        )
    )
    if optim.encoder_rate_scale != 1.0:
        parts.append(_scale_encoder(optim.encoder_rate_scale))
    return optax.chain(*parts)


def decay_mask(params):
    """Tell for each leaf whether weight decay applies: matrices, but no tokens or positions."""
    return paths.map_named(
        lambda name, leaf: leaf.ndim > 1 and paths.first_match(_DECAY_RULES, name), params
    )


def _scale_encoder(scale: float) -> optax.GradientTransformation:
    rules = ((r"^(encoder|region_projection)/", scale), (r".*", 1.0))

    def update(updates, state, params=None):
        del params
        scaled = paths.map_named(lambda name, u: u * paths.first_match(rules, name), updates)
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def norms_by_part(grads) -> dict[str, jax.Array]:
    """Return the global norm of the gradients, and of each part of the student."""
    norms = {f"grad_norm_{name}": optax.global_norm(part) for name, part in grads.items()}
    return {"grad_norm": optax.global_norm(grads), **norms}
