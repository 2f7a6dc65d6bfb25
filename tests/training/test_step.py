"""The update of the parameters, what the log says about it, and running statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.tiny import TINY
from zeroseg_jax.config import from_mapping
from zeroseg_jax.models.clip_zss.segformer import STATISTICS, AllMlpHead
from zeroseg_jax.training import sharding, timing, trees
from zeroseg_jax.training.checkpoint import Checkpoints
from zeroseg_jax.training.objective import Findings, Objective
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step, update


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


HEAD = AllMlpHead(4, norm="batch")
NORM = ("head/fuse_norm/mean", "head/fuse_norm/variance")


def normed_objective():
    """An objective of SegFormer's head alone, whose four maps are slices of the image."""

    def cut(images):
        return [images[:, :: 1 << i, :: 1 << i] for i in range(4)]

    def init_params(key):
        return {"head": HEAD.init(key, cut(jnp.zeros((1, 8, 8, 3))))["params"]}

    def loss_fn(params, batch, key, memory):
        del key, memory
        maps = cut(batch["image"])
        y, found = HEAD.apply({"params": params["head"]}, maps, mutable=[STATISTICS])
        statistics = trees.flatten({"head": found[STATISTICS]})
        return jnp.square(y - batch["target"]).mean(), Findings({}, statistics)

    return Objective(init_params, loss_fn)


def configure(mesh, pieces=1):
    optim = {**TINY["optim"], "accumulate_steps": pieces, "weight_decay": 0.5, "clip_norm": 1e-3}
    return from_mapping({**TINY, "mesh": mesh, "optim": {**optim, "warmup_fraction": 0.0}})


def build(config, objective, mesh):
    """Return a new state on the mesh, the step, and the shapes of the state."""
    optimizer = build_optimizer(config, 8)
    initial = init_state(config, objective, optimizer)
    abstract_state = sharding.shard_state(initial, mesh)
    state = jax.device_put(initial, jax.tree.map(lambda leaf: leaf.sharding, abstract_state))
    return state, build_step(config, objective, optimizer, mesh, abstract_state), abstract_state


def draw_batch(seed):
    """Draw images of different light, so that the statistics of one differ from those of all."""
    rng, light = np.random.default_rng(seed), np.arange(8).reshape(8, 1, 1, 1)
    return {
        "image": (light + rng.normal(size=(8, 8, 8, 3))).astype(np.float32),
        "target": rng.normal(size=(8, 8, 8, 4)).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("mesh", "pieces"), [({"data": 1}, 1), ({"data": 8}, 1), ({"data": 4}, 2)], ids=str
)
def test_running_statistics_are_of_the_whole_batch_and_not_the_optimizers(mesh, pieces):
    """With pieces of a batch they move once, towards the mean over the pieces."""
    config = configure(mesh, pieces)
    objective, devices = normed_objective(), sharding.build_mesh(config)
    state, step, _ = build(config, objective, devices)
    before = jax.device_get(state.params)
    batch = draw_batch(0)

    def find(first):
        rows = {name: value[first::pieces] for name, value in batch.items()}
        return objective.loss_fn(before, rows, jax.random.key(0), None)[1].statistics

    wanted = jax.tree.map(lambda *parts: sum(parts) / pieces, *map(find, range(pieces)))
    assert set(wanted) == set(NORM)
    state, metrics = step(state, jax.device_put(batch, sharding.split(devices)))
    after, start = trees.flatten(state.params), trees.flatten(before)
    for name in NORM:
        np.testing.assert_allclose(after[name], wanted[name], rtol=1e-5, atol=1e-6)
        assert np.abs(after[name] - start[name]).min() > 1e-3
    # The optimizer has seen no gradient of theirs, so they count for no clipping either.
    moments = [leaf for name, leaf in trees.flatten(state.opt_state).items() if name.endswith(NORM)]
    assert len(moments) == 4 and not any(np.any(leaf) for leaf in moments)
    assert (after["head/fuse/kernel"] != start["head/fuse/kernel"]).all()
    assert metrics["finite"] == 1


def test_running_statistics_are_saved_and_restored(tmp_path):
    """The steps after a checkpoint give the same bits."""
    config = configure({"data": 2})
    mesh = sharding.build_mesh(config)
    state, step, abstract_state = build(config, normed_objective(), mesh)
    batches = [jax.device_put(draw_batch(seed), sharding.split(mesh)) for seed in range(3)]
    state, _ = step(state, batches[0])
    saved = trees.flatten(jax.device_get(state.params))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, np.zeros(timing.count_values()))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        restored, _ = checkpoints.restore_latest(abstract_state)
    for batch in batches[1:]:
        state, _ = step(state, batch)
        restored, _ = step(restored, batch)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(restored))
    after = trees.flatten(state.params)
    assert all((after[name] != saved[name]).all() for name in NORM)
