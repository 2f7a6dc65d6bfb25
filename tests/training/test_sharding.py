"""Every axis and combination of the mesh, pieces of a batch and remat: the same numbers."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.training.tiny import TINY
from zeroseg_jax.config import MeshConfig, from_mapping
from zeroseg_jax.training import sharding, trees, zeroseg
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step

STEPS = 3


def build(config, initial=None):
    """Return mesh, state and step; the state is drawn on the mesh, or is a copy of one drawn."""
    mesh = sharding.build_mesh(config)
    objective, optimizer = zeroseg.build_abstract(config), build_optimizer(config, 8)

    def initial_state():
        return init_state(config, objective, optimizer)

    abstract_state = sharding.shard_state(
        jax.eval_shape(initial_state), mesh, shard_optimizer=config.mesh.shard_optimizer
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
    if initial is None:
        state = jax.jit(initial_state, out_shardings=shardings)()
    else:
        state = jax.device_put(initial, shardings)
    return mesh, state, build_step(config, objective, optimizer, mesh, abstract_state)


def run(config, initial):
    """Return the losses of the first steps, and the final state."""
    mesh, state, step = build(config, initial)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(STEPS):
        batch = {
            "image": rng.integers(0, 255, (16, 32, 32, 3), dtype=np.uint8),
            "features": rng.normal(size=(16, 5, 128)).astype(np.float16),
        }
        placed = jax.device_put(batch, sharding.split(mesh))
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, placed)
        found.append(float(jax.device_get(metrics["loss"])))
    return np.array(found), state


def configure(mesh=None, run=None, model=None, **optim):
    config = from_mapping(TINY)
    return dataclasses.replace(
        config,
        mesh=MeshConfig(**(mesh or {"data": 1})),
        run=dataclasses.replace(config.run, **(run or {})),
        model=model or config.model,
        optim=dataclasses.replace(config.optim, batch_global=16, **optim),
    )


@pytest.fixture(scope="module")
def initial():
    return jax.device_get(build(configure())[1])


@pytest.fixture(scope="module")
def one(initial):
    return run(configure(), initial)


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param({"data": 8}, marks=pytest.mark.slow),
        {"data": 4, "fsdp": 2, "shard_optimizer": True},
        pytest.param({"data": 1, "fsdp": 8}, marks=pytest.mark.slow),
        pytest.param({"data": 1, "tensor": 2}, marks=pytest.mark.slow),
        {"data": 2, "fsdp": 2, "tensor": 2},
    ],
    ids=lambda mesh: "-".join(f"{axis}{size}" for axis, size in mesh.items()),
)
def test_every_mesh_gives_the_losses_of_one_device(mesh, one, initial):
    losses, state = run(configure(mesh), initial)
    # Sums over devices run in another order: a few units in the last place.
    np.testing.assert_allclose(losses, one[0], rtol=1e-5)
    # Adam scales gradients that are rounding alone up to the rate, so single entries may differ:
    # 2.5e-4 of the whole at most was seen; the three steps move the whole by 3e-2.
    before, after = (jax.device_get(jax.tree.leaves(s.params)) for s in (one[1], state))
    apart = sum(np.square(x - y).sum() for x, y in zip(before, after, strict=True))
    assert apart**0.5 < 5e-4 * sum(np.square(x).sum() for x in before) ** 0.5


def test_parameters_and_optimizer_are_initialised_sharded(initial):
    _, state, _ = build(configure({"data": 2, "fsdp": 2, "tensor": 2}))
    chex.assert_trees_all_equal(jax.device_get(state), initial)
    flat = trees.flatten(state)
    query = "encoder/blocks_0/attention/query/kernel"
    mu = next(name for name in flat if "/mu/" in name and name.endswith(query))
    for name in (f"params/{query}", mu):
        assert flat[name].sharding.spec == P("fsdp", "tensor"), name
        assert flat[name].addressable_shards[0].data.shape == (8, 8)
    assert flat["params/encoder/blocks_0/mlp/fc2/kernel"].sharding.spec == P("tensor", "fsdp")
    assert flat["params/encoder/blocks_0/norm1/norm/scale"].sharding.is_fully_replicated
    local = sum(leaf.addressable_shards[0].data.nbytes for leaf in flat.values())
    assert local < 0.45 * sum(leaf.nbytes for leaf in flat.values())


def test_the_optimizer_alone_is_sharded_over_data():
    mesh = sharding.build_mesh(configure({"data": 4, "fsdp": 2}))
    objective, optimizer = zeroseg.build_abstract(configure()), build_optimizer(configure(), 8)
    shapes = jax.eval_shape(lambda: init_state(configure(), objective, optimizer))
    plain = trees.flatten(sharding.shard_state(shapes, mesh))
    found = trees.flatten(sharding.shard_state(shapes, mesh, shard_optimizer=True))
    split = 0
    for name, leaf in found.items():
        parts = [np.prod(one.sharding.shard_shape(one.shape)) for one in (plain[name], leaf)]
        if name.startswith("opt_state/") and leaf.ndim > 1 and leaf.shape[0] % 8 == 0:
            assert parts[0] == 4 * parts[1], name
            split += 1
        elif name.startswith("params/") or leaf.ndim < 2:
            assert leaf.sharding.spec == plain[name].sharding.spec, name
    assert split > 50


def test_pieces_of_a_batch_add_up_where_nothing_is_drawn(initial):
    model = from_mapping(TINY).model
    model = dataclasses.replace(
        model, mask_ratio=0.0, head=dataclasses.replace(model.head, gumbel=False)
    )
    whole, _ = run(configure(model=model), initial)
    pieces, _ = run(configure({"data": 2}, model=model, accumulate_steps=4), initial)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)


@pytest.mark.parametrize("remat", [pytest.param("dots", marks=pytest.mark.slow), "full"])
def test_remat_changes_no_number_and_no_name(remat, one, initial):
    losses, state = run(configure(run={"remat": remat}), initial)
    np.testing.assert_allclose(losses, one[0], rtol=1e-5)
    assert list(trees.flatten(state)) == list(trees.flatten(one[1]))


def test_bfloat16_computes_in_it_and_keeps_float32(one, initial):
    losses, state = run(configure(run={"dtype": "bfloat16"}), initial)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    assert 0 < abs(losses[0] - one[0][0]) < 0.02 * one[0][0]


@pytest.mark.parametrize(
    ("mesh", "optim", "sentence"),
    [
        ({"fsdp": 3}, {}, "mesh.fsdp x mesh.tensor: 3 x 1 does not divide the 8 devices"),
        (
            {"data": 16},
            {},
            "mesh.data x mesh.fsdp x mesh.tensor: 16 x 1 x 1 = 16 devices, but there are 8",
        ),
        ({"data": 8}, {"accumulate_steps": 4}, "optim.batch_global: 16 is not a multiple of 32"),
    ],
)
def test_a_mesh_that_does_not_fit_is_one_sentence(mesh, optim, sentence):
    with pytest.raises(ValueError, match=sentence):
        sharding.build_mesh(configure(mesh, **optim))


def test_heads_and_tensor_must_fit():
    with pytest.raises(ValueError, match="mesh.tensor: 4 does not divide model.encoder.heads 2"):
        from_mapping({**TINY, "mesh": {"tensor": 4}})
