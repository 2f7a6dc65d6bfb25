"""Text of a program compiled for a TPU: cycles, HBM traffic, collectives, attention kernels.

JAX has no interface for these numbers; the scheduled HLO text has them. Loops count as often as
they run.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_SIZES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"(body|to_apply|calls|branch_computations)=\{?%?([\w.\-]+)")
_NAME = re.compile(r"%([\w.\-]+)")
# Instructions that move no data of their own.
_FREE = {
    "parameter", "get-tuple-element", "bitcast", "constant", "tuple", "after-all", "partition-id",
    "iota", "while", "conditional",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array in memory: bytes with the padding of its tiles, and whether it is in HBM."""

    dims: tuple[int, ...]
    bytes: int
    in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `text` is the whole line after the name."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    text: str


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


class Program:
    """A compiled module.

    Args:
      hlo: text of the module, from jax.stages.Compiled.as_text.
      devices: number of devices of the program, used for collectives over all of them.
    """

    def __init__(self, hlo: str, devices: int):
        self._devices = devices
        self._bodies: dict[str, list[Instruction]] = {}
        entry, lines = "", []
        for line in hlo.splitlines():
            if match := _COMPUTATION.match(line):
                lines = self._bodies.setdefault(match[2], [])
                entry = match[2] if match[1] else entry
            elif match := _INSTRUCTION.match(line):
                lines.append(_parse(match[1], match[2]))
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

    def _steps(self) -> Iterator[tuple[Instruction, dict[str, Instruction], int]]:
        """Yield the scheduled instructions, their computation by name, and how often they run."""
        for name, times in self._scheduled.items():
            body = {one.name: one for one in self._bodies.get(name, ())}
            for one in body.values():
                yield one, body, times

    def count_cycles(self) -> int:
        """Return the compiler's estimated cycles of a step, without kernels and collectives."""
        return sum(self.split_cycles().values())

    def split_cycles(self) -> dict[str, int]:
        """Return the cycles of a training step by phase.

        "forward" and "backward" are named by JAX's differentiation. "update" is the rest with a
        name: optimizer, norms, random numbers. "copies" have no name.
        """
        found = dict.fromkeys(("forward", "backward", "update", "copies"), 0)
        for one, _, times in self._steps():
            if cycles := re.search(r'"estimated_cycles":"(\d+)"', one.text):
                name = re.search(r'op_name="([^"]*)"', one.text)
                if not name:
                    phase = "copies"
                elif "transpose(" in name[1]:
                    phase = "backward"
                else:
                    phase = "forward" if "jvp(" in name[1] else "update"
                found[phase] += int(cycles[1]) * times
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
        found: dict[tuple[bool, tuple[int, ...], int], int] = {}
        for one, _, times in self._steps():
            name = re.search(r"attention_(forward|backward)_d(\d+)", one.text)
            if one.opcode == "custom-call" and name:
                key = (name[1] == "backward", one.shapes[0].dims, int(name[2]))
                found[key] = found.get(key, 0) + times
        return [Kernel(*key, count) for key, count in found.items()]  # type: ignore[arg-type]

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
        sizes = [_size(dtype, dims) for dtype, dims, _ in _ARRAY.findall(_split(one.text)[0])]
        # A started gather or permute returns its operands together with its results.
        pair = one.opcode.endswith("-start") and kind in ("all-gather", "collective-permute")
        result = max(sizes) if pair else sum(sizes)
        group = _group_size(one.text, self._devices)
        share = (group - 1) / group
        factors = {"all-reduce": 2 * share, "reduce-scatter": share * group}
        return result * factors.get(kind, 1.0 if kind == "collective-permute" else share)


def _parse(name: str, text: str) -> Instruction:
    shapes, rest = _split(text)
    opcode, _, arguments = rest.partition("(")
    end = _closing(arguments, depth=1)
    return Instruction(
        name=name,
        opcode=opcode.strip(),
        shapes=tuple(_shape(*found) for found in _ARRAY.findall(shapes) if found[0] in _SIZES),
        operands=tuple(_NAME.findall(arguments[:end])),
        text=text,
    )


def _split(text: str) -> tuple[str, str]:
    """Split the text of an instruction into its result's type and the rest."""
    if not text.startswith("("):
        kind, _, rest = text.partition(" ")
        return kind, rest
    end = _closing(text, depth=0)
    return text[: end + 1], text[end + 2 :]


def _closing(text: str, depth: int) -> int:
    """Return the place of the parenthesis that closes the outermost one."""
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)


def _size(dtype: str, dims: str) -> int:
    return _SIZES.get(dtype, 4) * math.prod(int(side) for side in dims.split(",") if side)


def _shape(dtype: str, dims: str, layout: str) -> Shape:
    sides = [int(side) for side in dims.split(",") if side]
    padded = list(sides)
    order = [int(place) for place in layout.partition(":")[0].split(",") if place]
    if tile := re.search(r"T\(([\d,]+)\)", layout):
        # Tiles pad the minor dimensions, which the layout lists first.
        tiles = reversed([int(side) for side in tile[1].split(",")])
        for place, side in zip(order, tiles, strict=False):
            padded[place] = -(-sides[place] // side) * side
    return Shape(tuple(sides), _SIZES[dtype] * math.prod(padded), "S(" not in layout)


def _group_size(line: str, devices: int) -> int:
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return match[1].count(",") + 1
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    return devices
