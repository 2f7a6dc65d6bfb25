"""Mesh of devices (data x fsdp x tensor) and sharding rules for state and batch.

The batch is split over data and fsdp. Every matrix is split over fsdp, so that fsdp devices share
one copy of the state. The matrices of a block are split over tensor as in Megatron, so that each
device computes some of the heads and hidden units. With mesh.shard_optimizer the moments are split
over data as well, and each device updates its part of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zeroseg_jax.config import Config
from zeroseg_jax.training import trees

AXES = ("data", "fsdp", "tensor")
_BATCH = ("data", "fsdp")
# The first match wins. Names are those of parameters and of the optimizer's copies of them.
# Dimensions that are not divisible by a mesh axis are left unsharded.
_RULES = (
    (r"/(query|key|value|fc1)/kernel$", ("fsdp", "tensor")),
    (r"/(query|key|value|fc1)/bias$", ("tensor",)),
    (r"/(out|fc2)/kernel$", ("tensor", "fsdp")),
    (r"/(kernel|embedding)$", ("fsdp", None)),
    (r"(tokens_\d+|/positions)$", (None, "fsdp")),
    (r".*", ()),
)


def build_mesh(config: Config, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the mesh of config.mesh.

    Args:
      config: settings with the sizes of the axes; mesh.data == -1 uses all devices.
      devices: devices of the mesh; None for those of this run. A single process may use a part.

    Raises:
      ValueError: axes that do not fit the devices, or a batch that does not fit the axes.
    """
    wanted, mesh = config.mesh, list(devices or jax.devices())
    inner = wanted.fsdp * wanted.tensor
    if wanted.data == -1 and len(mesh) % inner:
        raise ValueError(
            f"mesh.fsdp x mesh.tensor: {wanted.fsdp} x {wanted.tensor} does not divide the "
            f"{len(mesh)} devices; use a divisor."
        )
    data = len(mesh) // inner if wanted.data == -1 else wanted.data
    count = data * inner
    if count > len(mesh) or (count < len(mesh) and jax.process_count() > 1):
        raise ValueError(
            f"mesh.data x mesh.fsdp x mesh.tensor: {data} x {wanted.fsdp} x {wanted.tensor} = "
            f"{count} devices, but there are {len(mesh)}; set mesh.data=-1 for all."
        )
    pieces = data * wanted.fsdp * config.optim.accumulate_steps
    if config.optim.batch_global % pieces:
        raise ValueError(
            f"optim.batch_global: {config.optim.batch_global} is not a multiple of {pieces} = "
            "mesh.data x mesh.fsdp x optim.accumulate_steps; change one of them."
        )
    if jax.process_count() > 1 and jax.local_device_count() % wanted.tensor:
        raise ValueError(
            f"mesh.tensor: {wanted.tensor} does not divide the {jax.local_device_count()} devices "
            "of a host, and a batch row must not be split between hosts; use a divisor."
        )
    shape, types = (data, wanted.fsdp, wanted.tensor), (AxisType.Auto,) * len(AXES)
    used = mesh[:count]
    if used[0].device_kind == "TPU v4" and any(device.core_on_chip for device in used):
        # Topologies list two devices per chip, which jax.make_mesh does not arrange.
        return Mesh(np.array(used).reshape(shape), AXES, axis_types=types)
    return jax.make_mesh(shape, AXES, axis_types=types, devices=used)


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over data and fsdp."""
    return NamedSharding(mesh, P(_BATCH))


def replicate(mesh: Mesh) -> NamedSharding:
    """Return the sharding of replicated arrays."""
    return NamedSharding(mesh, P())


def shard_state(state: Any, mesh: Mesh, *, shard_optimizer: bool = False) -> Any:
    """Return the shapes of a state with their shardings, as jax.ShapeDtypeStruct leaves.

    Args:
      state: tree of arrays or shapes, with the names of TrainState.
      mesh: mesh from build_mesh.
      shard_optimizer: value of mesh.shard_optimizer.
    """

    def shard(name: str, leaf: Any) -> jax.ShapeDtypeStruct:
        over_data = shard_optimizer and name.startswith("opt_state/")
        spec = _choose_axes(name, leaf.shape, mesh, over_data)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return trees.map_named(shard, state)


def split_update(tree: Any, mesh: Mesh) -> Any:
    """Constrain gradients or parameters, inside jit, to the shards of the optimizer's state.

    Args:
      tree: arrays with the names of the parameters.
      mesh: mesh from build_mesh.

    Source: ZeRO, stage 1 (arXiv 1910.02054).
    """

    def split_leaf(name: str, leaf: jax.Array) -> jax.Array:
        spec = _choose_axes(f"/{name}", leaf.shape, mesh, over_data=True)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return trees.map_named(split_leaf, tree)


def _choose_axes(name: str, shape: tuple[int, ...], mesh: Mesh, over_data: bool) -> P:
    """Return the axes of an array; with over_data a dimension is split over data as well."""
    axes = trees.first_match(_RULES, name)
    axes = axes if len(axes) == len(shape) else ()
    found = [_fit(axis, side, mesh) for axis, side in zip(axes, shape, strict=False)]
    # Vectors stay whole: small collectives cost more than the bytes that they save.
    if over_data and len(shape) > 1:
        found += [None] * (len(shape) - len(found))
        for dimension, side in enumerate(shape):
            axis = found[dimension]
            over = ("data",) if axis is None or mesh.shape[axis] == 1 else (axis, "data")
            if side % math.prod(mesh.shape[one] for one in over) == 0:
                return P(*found[:dimension], over, *found[dimension + 1 :])
    return P(*found)


def _fit(axis: str | None, side: int, mesh: Mesh) -> str | None:
    return axis if axis is not None and side % mesh.shape[axis] == 0 else None
