"""Memory limits of a run: state, step and prefetched batches against devices and host.

Without these checks the kernel ends the process, or XLA fails with a traceback after hours of
preparation.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from zeroseg_jax.config import Config

_CGROUP = Path("/sys/fs/cgroup/memory.max")  # limit of a container; "max" without one
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # status in XLA's messages


def host_bytes() -> int:
    """Return the memory of this host, or of its container if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        return min(total, int(_CGROUP.read_text()))
    return total


def device_bytes(mesh: Mesh) -> int:
    """Return the memory of one device of a mesh that this process can use.

    Devices of a CPU share the memory of the host. A platform that gives no limit has none.
    """
    local = _local_devices(mesh)
    if not local:
        return 2**63
    if local[0].platform == "cpu":
        return host_bytes() // len(local)
    return int((local[0].memory_stats() or {}).get("bytes_limit", 2**63))


def _local_devices(mesh: Mesh) -> list[jax.Device]:
    return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


def read_peak(mesh: Mesh) -> dict[str, float]:
    """Return the largest memory in use so far of one device of this process, in GB.

    Returns:
      {"device_gb": GB}; nothing on platforms that do not count it, such as CPUs.
    """
    local = _local_devices(mesh)
    peak = (local[0].memory_stats() or {}).get("peak_bytes_in_use", 0) if local else 0
    return {"device_gb": round(peak / 1e9, 2)} if peak else {}


def check_state(abstract_state: Any, mesh: Mesh) -> None:
    """Refuse a state that does not fit on a device, before it is made.

    Args:
      abstract_state: shapes and shardings, from sharding.shard_state.
      mesh: devices of the run.

    Raises:
      ValueError: parameters and moments exceed the memory of a device.
    """
    needed = sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.float64)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(abstract_state)
    )
    if needed > (limit := device_bytes(mesh)):
        raise ValueError(
            f"model: parameters and moments need {_gigabytes(needed)} on a device with "
            f"{_gigabytes(limit)}; lower the widths or depths, or raise mesh.fsdp."
        )


def check_batches(config: Config, record: Mapping[str, Any]) -> None:
    """Refuse batches that do not fit into the memory of the host.

    Args:
      config: batch size, number of prefetched batches.
      record: one record of the training set.

    Raises:
      ValueError: the prefetched batches of this host exceed its memory.
    """
    size = sum(value.nbytes for value in record.values() if isinstance(value, np.ndarray))
    ahead = max(2, config.data.prefetch_batches)
    needed = size * config.optim.batch_global // jax.process_count() * ahead
    if needed > (limit := host_bytes()):
        raise ValueError(
            f"optim.batch_global: {ahead} prefetched batches need {_gigabytes(needed)} on a host "
            f"with {_gigabytes(limit)}; lower it or data.prefetch_batches."
        )


def compile_step(step: Any, state: Any, batch: Any, mesh: Mesh) -> Any:
    """Compile the training step, and refuse one that does not fit on a device.

    Args:
      step: jitted step, from step.build_step.
      state, batch: its arguments, arrays or shapes.
      mesh: devices of the run.

    Returns:
      The compiled step.

    Raises:
      ValueError: arguments, results and intermediates exceed the memory of a device.
    """
    limit = device_bytes(mesh)
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        # The compiler of TPUs refuses by itself.
        if _OUT_OF_MEMORY not in str(error):
            raise
        raise ValueError(_explain_step("more memory than there is", limit)) from error
    sizes = compiled.memory_analysis()
    needed = 0 if sizes is None else add_up_program(sizes)
    if needed > limit:
        raise ValueError(_explain_step(_gigabytes(needed), limit))
    return compiled


def add_up_program(sizes: Any) -> int:
    """Return the bytes of a program's arguments, results and intermediates on one device.

    Args:
      sizes: result of jax.stages.Compiled.memory_analysis.
    """
    # Results reuse the buffers of donated arguments (alias).
    return int(
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )


def _explain_step(needed: str, limit: int) -> str:
    return (
        f"optim.batch_global: a step needs {needed} on a device with {_gigabytes(limit)}; lower "
        "it, raise optim.accumulate_steps or mesh.fsdp, or set run.remat=full."
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
