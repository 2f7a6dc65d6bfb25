"""The update of the parameters and what the log says about it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from zeroseg_jax.training.step import update


def norm(*arrays):
    return np.sqrt(sum(np.square(np.asarray(a, np.float64)).sum() for a in arrays))


def test_norms_are_of_gradients_of_the_change_and_of_the_new_parameters():
    rng = np.random.default_rng(0)
    params, grads = (
        {
            part: {"kernel": jnp.asarray(rng.normal(size=(7, 5)), jnp.float32)}
            for part in ("encoder", "head")
        }
        for _ in range(2)
    )
    rate, decay = 1e-3, 0.1
    optimizer = optax.adamw(rate, weight_decay=decay)
    updated, _, norms = jax.jit(lambda g, p: update(optimizer, g, optimizer.init(p), p))(
        grads, params
    )
    # AdamW's first step, from its formula: bias correction leaves g / (|g| + eps).
    changes = []
    for part, given in params.items():
        g, p = (np.asarray(tree["kernel"], np.float64) for tree in (grads[part], given))
        changes.append(-rate * (g / (np.abs(g) + 1e-8) + decay * p))
        # float32 of values near 1
        np.testing.assert_allclose(updated[part]["kernel"], p + changes[-1], atol=3e-7)
    assert norms["grad_norm"] == pytest.approx(norm(*(g["kernel"] for g in grads.values())))
    assert norms["grad_norm_head"] == pytest.approx(norm(grads["head"]["kernel"]))
    # The change is a difference of float32 values near 1: 6e-8 of 1e-3.
    assert norms["update_norm"] == pytest.approx(norm(*changes), rel=1e-4)
    assert norms["param_norm"] == pytest.approx(norm(*(u["kernel"] for u in updated.values())))
