"""Cycles, traffic and operations of a compiled step by part and by kind of work."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from zeroseg_jax.training.plan.chips import parse_topology
from zeroseg_jax.training.plan.program import Kernel, Program, find_phase

# Work of a named operation: the first pattern that its path has.
_WORK = (
    ("attention products", r"attention/(query|key|value|out)\b"),
    ("attention core", r"attention"),
    ("MLP", r"mlp"),
    ("norms", r"norm"),
    ("masking", r"gather|scatter|sort"),
)
_MODULE = re.compile(r"jvp\(\w+\)\)?/(\w+)")


@dataclasses.dataclass(frozen=True)
class Share:
    """What one kind of work takes of a step, per device.

    Attributes:
      part: module of the student, "losses", "update", or "copies" for what has no name.
      work: one of the names of classify.
      cycles: the compiler's estimate, with kernels by formula.
      backward_cycles: part of them in the backward pass.
      bytes: read from HBM and written to it.
      flops: operations of matrix products.
    """

    part: str
    work: str
    cycles: float
    backward_cycles: float
    bytes: float
    flops: float


def classify(name: str) -> tuple[str, str]:
    """Return the part and the work of an operation by its path in the program.

    Args:
      name: for example "jit(_step)/transpose(jvp(Student))/encoder/blocks_3/mlp/fc1/dot_general".
    """
    phase = find_phase(name)
    if phase in ("copies", "update"):
        return phase, "other"
    module = _MODULE.search(name)
    part = module[1] if module else "losses"
    for work, pattern in _WORK:
        if re.search(pattern, name):
            return part, work
    return part, "other"


def split_work(
    program: Program, flops: Mapping[str, float], kernel_cycles: Callable[[Kernel], float]
) -> list[Share]:
    """Split a compiled step by part and work, the largest first.

    A fusion counts as the operation that names it, so a product carries the bias, activation or
    norm that is computed with it. A copy counts as the work that first uses it.

    Args:
      program: compiled step of one device.
      flops: operations by path, see costs.split_flops, of one device.
      kernel_cycles: cycles of a kernel by formula.
    """
    totals: dict[tuple[str, str], list[float]] = {}

    def add(name: str, *amounts: float) -> None:
        total = totals.setdefault(classify(name), [0.0, 0.0, 0.0, 0.0])
        for place, amount in enumerate(amounts):
            total[place] += amount

    for name, cycles, moved, kernel in program.list_work():
        spent = cycles + (kernel_cycles(kernel) if kernel else 0.0)
        add(name, spent, spent if find_phase(name) == "backward" else 0.0, moved)
    for name, count in flops.items():
        add(name, 0.0, 0.0, 0.0, count)
    shares = [Share(*key, *total) for key, total in totals.items()]
    return sorted(shares, key=lambda share: -share.cycles)


def render_plan(plan: Mapping[str, Any]) -> str:
    """Render the work of a plan from planner.plan_step, see render."""
    chip, _ = parse_topology(plan["topology"])
    shares = [Share(**share) for share in plan["work"]]
    return render(shares, chip.clock, chip.flops / chip.devices)


def render(shares: list[Share], clock: float, flop_rate: float, least: float = 0.01) -> str:
    """Render shares as a Markdown table; those below `least` of the cycles are one row.

    Args:
      shares: result of split_work.
      clock: cycles a second.
      flop_rate: operations a second of one device.
      least: share of the cycles.
    """
    total = sum(share.cycles for share in shares)
    small = [share for share in shares if share.cycles < least * total]
    lines = [
        "| part | work | ms | of them backward | share | its products at peak, ms | GB moved |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for share in [*(share for share in shares if share not in small), *_merge(small)]:
        lines.append(
            f"| {share.part} | {share.work} | {1e3 * share.cycles / clock:.1f} | "
            f"{1e3 * share.backward_cycles / clock:.1f} | {share.cycles / total:.0%} | "
            f"{1e3 * share.flops / flop_rate:.1f} | {share.bytes / 1e9:.1f} |"
        )
    return "\n".join(lines)


def _merge(shares: list[Share]) -> list[Share]:
    if not shares:
        return []
    amounts = [dataclasses.astuple(share)[2:] for share in shares]
    return [Share("the rest", "", *map(sum, zip(*amounts, strict=True)))]
