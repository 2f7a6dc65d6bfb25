"""Devices and how arrays lie on them: a mesh data x fsdp x tensor and path rules.

The batch is split over data and fsdp. Every matrix is split over fsdp, so that one copy of the
state lies on fsdp devices; over tensor the matrices of a block are split as Megatron does, so
that each device computes some of the heads and of the hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zeroseg_jax.config import Config
from zeroseg_jax.training import trees as paths

AXES = ("data", "fsdp", "tensor")
_BATCH = ("data", "fsdp")
# First match wins, over the names of parameters and of the optimizer's copies alike. An axis
# that the array's side is not a multiple of is left out: that side stays whole.
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
      config: sizes of the axes; mesh.data == -1 takes all devices.
      devices: to use; None for those of this run, of which a single process may use some.

    Raises:
      ValueError: the axes do not fit the devices, or the batch does not fit the axes.
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
            f"{count} devices, but {len(mesh)} are there; set mesh.data=-1 for all."
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
        # Topologies list two devices a chip, which jax does not arrange; real slices have one.
        return Mesh(np.array(used).reshape(shape), AXES, axis_types=types)
    return jax.make_mesh(shape, AXES, axis_types=types, devices=used)


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over data and fsdp."""
    return NamedSharding(mesh, P(_BATCH))


def replicate(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def shard_state(state: Any, mesh: Mesh) -> Any:
    """Return `state` as jax.ShapeDtypeStruct leaves that say how each lies on the mesh.

    Args:
      state: a tree of arrays or shapes, with the names of TrainState.
      mesh: from build_mesh.
    """

    def shard(name: str, leaf: Any) -> jax.ShapeDtypeStruct:
        axes = paths.first_match(_RULES, name)
        axes = axes if len(axes) == len(leaf.shape) else ()
        spec = P(*(_fit(axis, side, mesh) for axis, side in zip(axes, leaf.shape, strict=False)))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return paths.map_named(shard, state)


def _fit(axis: str | None, side: int, mesh: Mesh) -> str | None:
    return axis if axis is not None and side % mesh.shape[axis] == 0 else None
