"""Plan of a run: its step compiled for a TPU slice on a machine without one, and its costs."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import Any, Literal

import jax
from jax.experimental import topologies

from zeroseg_jax.config import Config
from zeroseg_jax.models.fused_attention import choose_core
from zeroseg_jax.training import sharding, trees
from zeroseg_jax.training.inputs import describe_batch
from zeroseg_jax.training.memory import add_up_program
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.optimizer import build_optimizer, count_steps
from zeroseg_jax.training.plan import costs, work_shares
from zeroseg_jax.training.plan.chips import Chip, parse_topology
from zeroseg_jax.training.plan.program import Kernel, Program
from zeroseg_jax.training.state import TrainState, init_state
from zeroseg_jax.training.step import build_step

# Recomputation policies, the cheapest first.
_REMAT: tuple[Literal["none", "dots", "full"], ...] = ("none", "dots", "full")


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """Assumptions of a plan.

    Attributes:
      images: number of training images, used where optim.steps is 0.
      price: price per chip and hour; 0 for no cost.
    """

    images: int
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
      JSON values by name. Sizes and rates are per chip unless the name says otherwise. A step that
      does not fit into the memory has no times.

    Raises:
      ValueError: an unknown topology, or a mesh or batch that does not fit it.
    """
    chip, chips, devices = describe_devices(topology)
    core = choose_core(config.run.attention, "tpu", config.run.dtype)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, attention=core))
    mesh = sharding.build_mesh(config, devices)
    if mesh.size != len(devices):
        raise ValueError(f"mesh: uses {mesh.size} of the {len(devices)} devices; set mesh.data=-1.")
    steps = count_steps(config, given.images)
    step, state, batch = trace_step(config, mesh, steps)
    per_chip = len(devices) // chips
    arguments = _add_up_arguments(state, batch, per_chip)
    plan: dict[str, Any] = {
        "topology": topology,
        "chips": chips,
        "devices_per_chip": per_chip,
        "mesh": dict(mesh.shape),
        "batch_global": config.optim.batch_global,
        "batch_per_chip": config.optim.batch_global / chips,
        "accumulate_steps": config.optim.accumulate_steps,
        "remat": config.run.remat,
        "attention": core,
        "hbm_bytes_per_chip": chip.hbm_bytes,
        **arguments,
    }
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        needed = read_needed_bytes(str(error))
        if not needed:
            raise
        needed = needed * per_chip + sum(arguments.values())
        return {**plan, "fits": False, "peak_bytes_per_chip": needed}
    return plan | _cost(compiled, costs.split_flops(step, state, batch), plan, chip, steps, given)


def _cost(
    compiled: Any,
    flops_by_path: dict[str, int],
    plan: dict[str, Any],
    chip: Chip,
    steps: int,
    given: Assumptions,
) -> dict[str, Any]:
    """Return the memory, the traffic and the times of a compiled step."""
    per_chip, chips = plan["devices_per_chip"], plan["chips"]
    flops = sum(flops_by_path.values())
    memory = _add_up_memory(compiled.memory_analysis(), per_chip)
    program = Program(compiled.as_text(), chips * per_chip)
    collectives = program.count_collectives()
    sent = sum(collective.bytes for collective in collectives.values()) * per_chip
    moved = program.count_traffic() * per_chip
    parts = {
        "compiled": program.count_cycles() / chip.clock,
        "kernels": sum(estimate_kernel(kernel, chip) for kernel in program.list_kernels()),
        "network": sent / chip.link_rate,
    }
    seconds = sum(parts.values())
    hours = steps * seconds / 3600
    return {
        **memory,
        "fits": memory["peak_bytes_per_chip"] <= chip.hbm_bytes,
        "flops_per_step": flops,
        "flops_per_image": flops / plan["batch_global"],
        "moved_bytes_per_step": moved,
        "moved_seconds": moved / chip.hbm_rate,
        "collectives": {
            kind: {"count": one.count, "bytes": one.bytes * per_chip}
            for kind, one in collectives.items()
        },
        "collective_bytes_per_step": sent,
        "seconds_by_part": parts,
        "cycles_by_phase": program.split_cycles(),
        "work": [
            dataclasses.asdict(share)
            for share in work_shares.split_work(
                program,
                {path: count / (chips * per_chip) for path, count in flops_by_path.items()},
                lambda kernel: estimate_kernel(kernel, chip) * chip.clock,
            )
        ],
        "estimated_step_seconds": seconds,
        "mfu": flops / chips / chip.flops / seconds,
        "images_per_second": plan["batch_global"] / seconds,
        "steps": steps,
        "hours": hours,
        "chip_hours": hours * chips,
        "cost": hours * chips * given.price if given.price else None,
    }


def estimate_kernel(kernel: Kernel, chip: Chip) -> float:
    """Return the seconds of all calls of an attention kernel in a step, by formula.

    The compiler gives a kernel no cycles. Matrix unit: 2 products of a head forward and 5 backward,
    rows and lanes padded to 128, at the published rate. Vector unit: about 10 operations a score
    forward and 20 backward, 4 registers of 1,024 values a cycle. The two are added up, as if they
    never overlapped.
    """
    images, length, width = kernel.shape
    keys, lanes = -(-length // 128) * 128, max(kernel.head, 128)
    scores = images * (width // kernel.head) * length * keys
    products, operations = (5, 20) if kernel.backward else (2, 10)
    matrix = 2 * products * scores * lanes / (chip.flops / chip.devices)
    return kernel.count * (matrix + operations * scores / (4 * 1024 * chip.clock))


def read_needed_bytes(message: str) -> float:
    """Return the bytes of intermediates that do not fit, of the compiler's message; 0 for others.

    Args:
      message: text with "memory required for HLO temporaries (23.84G) exceeds" (libtpu 0.0.52) or
        "Used 30.11G of 15.75G hbm" (before).
    """
    found = re.search(r"(?:HLO temporaries \(|Used )([\d.]+)([KMGT])", message)
    return float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1) if found else 0.0


def suggest_fits(plan: dict[str, Any]) -> list[str]:
    """Return the nearest settings that should fit a plan that does not, by arithmetic.

    Args:
      plan: result of plan_step with fits False.
    """
    state = plan["parameter_bytes_per_chip"] + plan["optimizer_bytes_per_chip"]
    room, rest = 0.9 * plan["hbm_bytes_per_chip"] - state, plan["peak_bytes_per_chip"] - state
    if room <= 0:
        shards = 2 ** math.ceil(math.log2(state / (0.5 * plan["hbm_bytes_per_chip"])))
        return [f"mesh.fsdp={shards}, which shards the state of {state / 1e9:.1f} GB"]
    factor = 2 ** math.ceil(math.log2(max(rest / room, 1.01)))
    pieces = plan["accumulate_steps"] * factor
    found = [f"{plan['chips'] * factor} chips"]
    if plan["batch_global"] % (pieces * math.prod(plan["mesh"].values())) == 0:
        found.insert(0, f"optim.accumulate_steps={pieces}")
    if plan["remat"] == "none":
        found.append("run.remat=dots or full")
    return found


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
    state = sharding.shard_state(shapes, mesh, shard_optimizer=config.mesh.shard_optimizer)
    step = build_step(config, objective, optimizer, mesh, state)
    rows = sharding.split(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows)
        for name, leaf in describe_batch(config).items()
    }
    return step, state, batch


def _add_up_arguments(state: TrainState, batch: Any, per_chip: int) -> dict[str, int]:
    parts = {"parameter": 0, "optimizer": 0}
    for name, leaf in trees.flatten(state).items():
        part = "parameter" if name.startswith("params/") else "optimizer"
        parts[part] += _count_local_bytes(leaf)
    return {
        "parameter_bytes_per_chip": parts["parameter"] * per_chip,
        "optimizer_bytes_per_chip": parts["optimizer"] * per_chip,
        "batch_bytes_per_chip": sum(map(_count_local_bytes, batch.values())) * per_chip,
    }


def _add_up_memory(analysis: Any, per_chip: int) -> dict[str, int]:
    total = add_up_program(analysis) + analysis.generated_code_size_in_bytes
    return {
        "activation_bytes_per_chip": analysis.temp_size_in_bytes * per_chip,
        "peak_bytes_per_chip": total * per_chip,
    }


def _count_local_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


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
