"""Runs of the bench that share one compiled step, and the views of a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench.experiments import grid_views, short_runs
from zeroseg_jax.data.views import grid_windows
from zeroseg_jax.training.objective import Findings, Objective
from zeroseg_jax.training.state import stream


@pytest.mark.parametrize("seed", [0, 2])
def test_a_shared_step_draws_the_keys_of_its_seed(seed):
    def loss_fn(params, batch, key, memory):
        return jax.random.uniform(key), Findings({})

    objective = short_runs._keep_seed(Objective(lambda key: {}, loss_fn), seed)
    memory, draw = objective.init_memory(), jax.jit(objective.loss_fn)
    for step in range(3):
        found, _ = draw({}, {}, jax.random.key(9), memory)
        assert found == jax.random.uniform(stream(seed, "step", jnp.int32(step)))
        memory = objective.update_memory(memory, {})


def test_views_are_scored_by_the_class_of_most_of_their_pixels():
    label = np.full((8, 8), 10)
    label[:4, :4] = 2  # a thing fills the first of four views
    label[0, 0] = -1
    names = np.array([[2, 10, 10, 9]])
    found = grid_views.score_views(names, grid_windows((2,), False), [{"label": label}], 12)
    assert found["views_right"] == 75.0
    assert found["views_of_things"] == 25.0 and found["views_of_things_right"] == 100.0
    assert found["views_named_thing"] == 25.0
    # Classes 2, 9 and 10: all, none, and two thirds of their pixels.
    assert found["cells_miou"] == round(100 * (1 + 0 + 2 / 3) / 3, 1)
