"""Text of a program compiled for a TPU: cycles, HBM traffic, collectives, attention kernels.

JAX has no interface for these numbers; the scheduled HLO text has them. Loops count as often as
they run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zeroseg_jax.training.plan.hlo_text import Instruction, parse_module

COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_CALLED = re.compile(r"(body|to_apply|calls|branch_computations)=\{?%?([\w.\-]+)")
# Instructions that move no data of their own.
_FREE = {
    "parameter", "get-tuple-element", "bitcast", "constant", "tuple", "after-all", "partition-id",
    "iota", "while", "conditional",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """Number of collectives of one kind, and bytes that they send, per step and device."""

    count: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Calls of one attention kernel with one shape, per step and device.

    Attributes:
      backward: True for the gradient.
      shape: (B, L, D) of its arrays.
      head: width of a head.
      count: number of calls.
    """

    backward: bool
    shape: tuple[int, int, int]
    head: int
    count: int


class Work(NamedTuple):
    """Work of an instruction, as often as it runs in a step.

    Attributes:
      name: path of the operation in the program; "" if it has none.
      cycles: the compiler's estimate; 0 for kernels and collectives.
      bytes: read from HBM and written to it.
      kernel: attention kernel, or None.
    """

    name: str
    cycles: int
    bytes: int
    kernel: Kernel | None


class Program:
    """A compiled module.

    Args:
      hlo: text of the module, from jax.stages.Compiled.as_text.
      devices: number of devices of the program, used for collectives over all of them.
    """

    def __init__(self, hlo: str, devices: int):
        self._devices = devices
        self._bodies, entry = parse_module(hlo)
        # How often each computation runs: those of the schedule, and all, with fused ones.
        self._scheduled = self._count_runs(entry, ("body", "branch_computations"))
        self._all = self._count_runs(entry, ("body", "branch_computations", "calls", "to_apply"))

    def _count_runs(self, entry: str, links: tuple[str, ...]) -> dict[str, int]:
        runs: dict[str, int] = {}
        todo = [(entry, 1)]
        while todo:
            name, times = todo.pop()
            runs[name] = runs.get(name, 0) + times
            for one in self._bodies.get(name, ()):
                factor = self._trips(one) if one.opcode == "while" else 1
                for link, called in _CALLED.findall(one.text):
                    if link in links or (link == "to_apply" and one.opcode == "call"):
                        todo.append((called, times * factor))
        return runs

    def _trips(self, loop: Instruction) -> int:
        """Return the number of iterations; on TPUs it is the constant of the condition."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.text):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.text)
        limits = [
            int(constant[1])
            for one in self._bodies.get(condition[1] if condition else "", ())
            if (constant := re.search(r"constant\((\d+)\)", one.text))
        ]
        return max(limits, default=1)

    def _scheduled_bodies(self) -> Iterator[tuple[dict[str, Instruction], int]]:
        """Yield the instructions of each scheduled computation by name, and how often it runs."""
        for name, times in self._scheduled.items():
            yield {one.name: one for one in self._bodies.get(name, ())}, times

    def _steps(self) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        """Yield the scheduled instructions, their computation by name, and how often they run."""
        for body, times in self._scheduled_bodies():
            for one in body.values():
                yield one, body, times

    def count_cycles(self) -> int:
        """Return the compiler's estimated cycles of a step, without kernels and collectives."""
        return sum(self.split_cycles().values())

    def split_cycles(self) -> dict[str, int]:
        """Return the cycles of a training step by phase, see find_phase."""
        found = dict.fromkeys(("forward", "backward", "update", "copies"), 0)
        for one, _, times in self._steps():
            found[find_phase(one.path)] += one.cycles * times
        return found

    def count_traffic(self) -> int:
        """Return the bytes that the scheduled instructions read from HBM and write to it."""
        return sum(self._traffic(one, body) * times for one, body, times in self._steps())

    def _traffic(self, one: Instruction, body: dict[str, Instruction]) -> int:
        if one.opcode in _FREE or one.opcode.endswith("-done") or "ConcatBitcast" in one.text:
            return 0
        operands = [body[name] for name in one.operands if name in body]
        if one.opcode in ("copy-start", "slice-start"):
            source = operands[0].shapes[0]
            target = one.shapes[0 if one.opcode == "copy-start" else 1]
            return target.bytes * (source.in_hbm + target.in_hbm)
        parts = self._read_parts(one)
        total = sum(shape.bytes for shape in one.shapes if shape.in_hbm)
        for place, operand in enumerate(operands):
            for shape in operand.shapes:
                if shape.in_hbm:
                    total += min(shape.bytes, parts.get(place, shape.bytes))
        return total

    def _read_parts(self, one: Instruction) -> dict[int, int]:
        """Return the bytes read of each parameter of which a fusion reads slices alone."""
        called = re.search(r"calls=%?([\w.\-]+)", one.text)
        body = self._bodies.get(called[1], []) if called else []
        parts = {}
        for parameter in body:
            place = re.search(r"parameter\((\d+)\)", parameter.text)
            if parameter.opcode != "parameter" or not place:
                continue
            users = [user for user in body if parameter.name in user.operands]
            if users and all(user.opcode in ("dynamic-slice", "slice") for user in users):
                parts[int(place[1])] = sum(s.bytes for user in users for s in user.shapes)
            elif users and all(
                user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name
                for user in users
            ):
                parts[int(place[1])] = 0
        return parts

    def list_kernels(self) -> list[Kernel]:
        """Return the attention kernels (models/fused_attention.py) by direction and shape."""
        found: dict[Kernel, int] = {}
        for one, _, times in self._steps():
            if kernel := _read_kernel(one, 1):
                found[kernel] = found.get(kernel, 0) + times
        return [dataclasses.replace(kernel, count=count) for kernel, count in found.items()]

    def list_work(self) -> Iterator[Work]:
        """Yield the work of every scheduled instruction; a copy is named by its first user."""
        for body, times in self._scheduled_bodies():
            users = _first_users(body.values())
            for one in body.values():
                yield Work(
                    _find_name(one, users),
                    times * one.cycles,
                    times * self._traffic(one, body),
                    _read_kernel(one, times),
                )

    def count_collectives(self) -> dict[str, Collective]:
        """Count the collectives by kind and the bytes that a ring sends for them.

        Each of n devices sends (n - 1) / n of the array for all-gather (the result), reduce-scatter
        (the input) and all-to-all, twice that for all-reduce, and the whole array for
        collective-permute.
        """
        found: dict[str, list[float]] = {}
        seen: set[str] = set()
        for name, times in self._all.items():
            for one in self._bodies.get(name, ()):
                kind = one.opcode.removesuffix("-start")
                # Pieces of a collective that the compiler splits for overlap share a channel.
                channel = re.search(r"channel_id=(\d+)", one.text)
                if kind not in COLLECTIVES or (channel and channel[1] in seen):
                    continue
                seen.add(channel[1] if channel else "")
                total = found.setdefault(kind, [0, 0.0])
                total[0] += times
                total[1] += times * self._sent_bytes(one, kind)
        return {kind: Collective(int(n), size) for kind, (n, size) in sorted(found.items())}

    def _sent_bytes(self, one: Instruction, kind: str) -> float:
        sizes = one.list_result_bytes()
        # A started gather or permute returns its operands together with its results.
        pair = one.opcode.endswith("-start") and kind in ("all-gather", "collective-permute")
        result = max(sizes) if pair else sum(sizes)
        group = one.count_group(self._devices)
        share = (group - 1) / group
        factors = {"all-reduce": 2 * share, "reduce-scatter": share * group}
        return result * factors.get(kind, 1.0 if kind == "collective-permute" else share)


def find_phase(path: str) -> str:
    """Return the phase of an operation of a training step by its path in the program.

    "forward" and "backward" are named by JAX's differentiation. "update" is the rest with a name:
    optimizer, norms, random numbers. "copies" have no name.
    """
    if not path:
        return "copies"
    if "transpose(" in path:
        return "backward"
    return "forward" if "jvp(" in path else "update"


def _read_kernel(one: Instruction, times: int) -> Kernel | None:
    name = re.search(r"attention_(forward|backward)_d(\d+)", one.text)
    if one.opcode != "custom-call" or not name:
        return None
    images, length, width = one.shapes[0].dims
    return Kernel(name[1] == "backward", (images, length, width), int(name[2]), times)


def _first_users(body: Iterable[Instruction]) -> dict[str, Instruction]:
    """Return the first user of each instruction's result, in the order of the schedule."""
    users: dict[str, Instruction] = {}
    for one in body:
        for operand in one.operands:
            users.setdefault(operand, one)
    return users


def _find_name(one: Instruction, users: dict[str, Instruction]) -> str:
    """Return the path of an instruction, for a copy that of what first uses its result."""
    current: Instruction | None = one
    while current is not None and (not current.path or _is_copy(current)):
        current = users.get(current.name)
    return (current or one).path


def _is_copy(one: Instruction) -> bool:
    return one.opcode.removesuffix("-start").removesuffix("-done") in ("copy", "slice")
