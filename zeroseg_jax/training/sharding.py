"""Devices and how arrays lie on them: the batch is split, the state is the same everywhere."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from zeroseg_jax.config import Config


def build_mesh(config: Config) -> Mesh:
    """Return a mesh with the axis "data" over run.data_parallel devices.

    Raises:
      ValueError: more devices asked for than there are, or a batch they do not divide.
    """
    devices = jax.devices()
    count = len(devices) if config.run.data_parallel == -1 else config.run.data_parallel
    if not 1 <= count <= len(devices):
        raise ValueError(
            f"run.data_parallel: {count} devices, but {len(devices)} are there; use -1 for all."
        )
    if config.optim.batch_global % count:
        raise ValueError(
            f"optim.batch_global: {config.optim.batch_global} is not a multiple of {count} "
            "devices; change it or set run.data_parallel."
        )
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over "data"."""
    return NamedSharding(mesh, P("data"))


def replicate(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, P())
