"""Memory limits: what does not fit is refused in one sentence before anything is allocated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.config import from_mapping
from zeroseg_jax.training import memory, sharding
from zeroseg_jax.training.optimizer import count_steps

CONFIG = from_mapping({"mesh": {"data": 1, "fsdp": 2}, "optim": {"batch_global": 8}})
MESH = sharding.build_mesh(CONFIG)


def shard(side):
    tree = {"kernel": jax.ShapeDtypeStruct((side, side), "float32")}
    return sharding.shard_state({"params": {"fc": tree}}, MESH)


def test_a_state_is_counted_by_its_shards(monkeypatch):
    monkeypatch.setattr(memory, "host_bytes", lambda: 2 * 40_000)  # two devices share the host
    memory.check_state(shard(140), MESH)  # 140^2 * 4 / 2 = 39,200
    with pytest.raises(ValueError, match="^model: parameters and moments need .* raise mesh.fsdp"):
        memory.check_state(shard(142), MESH)


def test_prefetched_batches_fit_into_the_host():
    record = {"image": np.zeros((1024, 1024, 3), np.uint8), "index": 3}
    memory.check_batches(CONFIG, record)
    huge = from_mapping({"optim": {"batch_global": 2**20}, "data": {"prefetch_batches": 1024}})
    with pytest.raises(ValueError, match=r"^optim.batch_global: 1024 prefetched .* 3,377,699.7 GB"):
        memory.check_batches(huge, record)


def test_a_step_is_refused_before_it_allocates():
    step = jax.jit(lambda state, batch: (state @ state.T).sum() + batch)
    small = jax.ShapeDtypeStruct((8, 8), "float32")
    batch = jnp.zeros(())
    assert memory.compile_step(step, small, batch, MESH)(jnp.ones((8, 8)), batch) == 512
    with pytest.raises(ValueError, match=r"^optim.batch_global: a step needs 4,398.0 GB on a"):
        memory.compile_step(step, jax.ShapeDtypeStruct((2**20, 2**20), "float32"), batch, MESH)


def test_steps_fit_into_their_counter():
    config = from_mapping({"optim": {"steps": 0, "epochs": 1e6, "batch_global": 1}})
    assert count_steps(config, 2147) == 2_147_000_000
    with pytest.raises(ValueError, match=r"^optim.epochs: 1e\+06 over 2148 images are 2148000000"):
        count_steps(config, 2148)
