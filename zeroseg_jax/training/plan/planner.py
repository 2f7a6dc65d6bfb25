"""Plan of a run: its step compiled for a TPU slice on a machine without one, and its costs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, Literal

import jax
from jax.experimental import topologies

from zeroseg_jax.config import Config
from zeroseg_jax.training import sharding, trees
from zeroseg_jax.training.inputs import describe_batch
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.optimizer import build_optimizer, count_steps
from zeroseg_jax.training.plan import costs
from zeroseg_jax.training.plan.chips import Chip, parse_topology
from zeroseg_jax.training.state import TrainState, init_state
from zeroseg_jax.training.step import build_step

# Recomputation policies, the cheapest first.
_REMAT: tuple[Literal["none", "dots", "full"], ...] = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """Assumptions of a plan.

    Attributes:
      images: number of training images, used where optim.steps is 0.
      efficiency: fraction of the roofline that the step reaches, in (0, 1].
      price: price per chip and hour; 0 for no cost.
    """

    images: int
    efficiency: float
    price: float = 0.0


def describe_devices(topology: str) -> tuple[Chip, int, list[Any]]:
    """Return the chip, the number of chips and the devices of a topology.

    Raises:
      ValueError: an unknown topology, or libtpu is not installed.
    """
    chip, chips = parse_topology(topology)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"--topology: {topology} cannot be described ({reason}); use an existing slice "
            "and install libtpu (pip install 'zeroseg_jax[plan]')."
        ) from error
    return chip, chips, list(devices)


def plan_step(config: Config, topology: str, given: Assumptions) -> dict[str, Any]:
    """Compile the step of `config` for a topology and compute its costs.

    Args:
      config: settings of the run.
      topology: slice, for example "v5e:8x8".
      given: assumptions of the estimate.

    Returns:
      JSON values by name. Sizes and rates are per chip unless the name says otherwise.

    Raises:
      ValueError: an unknown topology, or a mesh or batch that does not fit it.
    """
    chip, chips, devices = describe_devices(topology)
    mesh = sharding.build_mesh(config, devices)
    if mesh.size != len(devices):
        raise ValueError(f"mesh: uses {mesh.size} of the {len(devices)} devices; set mesh.data=-1.")
    steps = count_steps(config, given.images)
    step, state, batch = trace_step(config, mesh, steps)
    flops = costs.count_flops(step, state, batch)
    compiled = step.lower(state, batch).compile()
    collectives = costs.count_collectives(compiled.as_text(), len(devices))
    per_chip = len(devices) // chips
    memory = _add_up_memory(compiled.memory_analysis(), state, batch, per_chip)
    moved = _count_moved(compiled.cost_analysis(), config) * per_chip
    sent = sum(collective.bytes for collective in collectives.values()) * per_chip
    parts = {
        "compute": flops / chips / chip.flops,
        "memory": moved / chip.hbm_rate,
        "network": sent / chip.link_rate,
    }
    bound = max(parts, key=parts.__getitem__)
    seconds = parts[bound] / given.efficiency
    batch_global, hours = config.optim.batch_global, steps * seconds / 3600
    return {
        "topology": topology,
        "chips": chips,
        "devices_per_chip": per_chip,
        "mesh": dict(mesh.shape),
        "batch_per_chip": batch_global / chips,
        "accumulate_steps": config.optim.accumulate_steps,
        "remat": config.run.remat,
        "hbm_bytes_per_chip": chip.hbm_bytes,
        **memory,
        "fits": memory["peak_bytes_per_chip"] <= chip.hbm_bytes,
        "flops_per_step": flops,
        "flops_per_image": flops / batch_global,
        "moved_bytes_per_step": moved,
        "collectives": {
            kind: {"count": one.count, "bytes": one.bytes * per_chip}
            for kind, one in collectives.items()
        },
        "collective_bytes_per_step": sent,
        "roofline_seconds": parts,
        "bound": bound,
        "efficiency": given.efficiency,
        "estimated_step_seconds": seconds,
        "images_per_second": batch_global / seconds,
        "steps": steps,
        "hours": hours,
        "chip_hours": hours * chips,
        "cost": hours * chips * given.price if given.price else None,
    }


def trace_step(
    config: Config, mesh: jax.sharding.Mesh, steps: int
) -> tuple[Any, TrainState, dict[str, Any]]:
    """Return the jitted step of a config, and the shapes of its state and batch, sharded.

    Args:
      config: settings of the run.
      mesh: mesh from sharding.build_mesh; its devices need not be there.
      steps: number of steps, for the learning rate.
    """
    objective = METHODS[config.objective].build_abstract(config)
    optimizer = build_optimizer(config, steps)
    shapes = jax.eval_shape(lambda: init_state(config, objective, optimizer))
    state = sharding.shard_state(shapes, mesh)
    step = build_step(config, objective, optimizer, mesh, state)
    rows = sharding.split(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows)
        for name, leaf in describe_batch(config).items()
    }
    return step, state, batch


def _add_up_memory(analysis: Any, state: TrainState, batch: Any, per_chip: int) -> dict[str, int]:
    parts = {"parameter": 0, "optimizer": 0}
    for name, leaf in trees.flatten(state).items():
        part = "parameter" if name.startswith("params/") else "optimizer"
        parts[part] += _count_local_bytes(leaf)
    # Arguments are batch and state; outputs reuse the buffers of the state (alias).
    total = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
        + analysis.generated_code_size_in_bytes
    )
    return {
        "parameter_bytes_per_chip": parts["parameter"] * per_chip,
        "optimizer_bytes_per_chip": parts["optimizer"] * per_chip,
        "batch_bytes_per_chip": sum(map(_count_local_bytes, batch.values())) * per_chip,
        "activation_bytes_per_chip": analysis.temp_size_in_bytes * per_chip,
        "peak_bytes_per_chip": total * per_chip,
    }


def _count_local_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _count_moved(analysis: dict[str, float], config: Config) -> float:
    """Return bytes to and from a device's memory; the compiler counts a loop's body once."""
    return float(analysis.get("bytes accessed", 0.0)) * config.optim.accumulate_steps


def list_candidates(config: Config, devices: int, limit: int) -> list[Config]:
    """List meshes, accumulation steps and remat policies to try, the simplest first.

    Args:
      config: settings of the run; the global batch is not changed.
      devices: number of devices of the topology.
      limit: maximum number of candidates.
    """
    axes = [(f, t) for f, t in itertools.product((1, 4, 8, 2), (1, 2)) if f * t <= devices]
    rows = [(r, p, a) for a in axes for p in (1, 2, 4) for r in _REMAT]
    # Candidates with recomputation, accumulation or more communication come later.
    rows.sort(key=lambda row: _REMAT.index(row[0]) + row[1] // 2
              + (row[2][0] > 1) + 2 * (row[2][1] > 1))  # fmt: skip
    found = []
    for remat, pieces, (fsdp, tensor) in rows:
        candidate = dataclasses.replace(
            config,
            mesh=dataclasses.replace(config.mesh, data=-1, fsdp=fsdp, tensor=tensor),
            optim=dataclasses.replace(config.optim, accumulate_steps=pieces),
            run=dataclasses.replace(config.run, remat=remat),
        )
        rest = devices // (fsdp * tensor) * fsdp * pieces
        if devices % (fsdp * tensor) == 0 and config.optim.batch_global % rest == 0:
            found.append(candidate)
    return found[:limit]
