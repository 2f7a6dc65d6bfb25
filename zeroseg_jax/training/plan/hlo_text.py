"""Instructions of a compiled program, parsed from its HLO text."""

from __future__ import annotations

import dataclasses
import math
import re

_SIZES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")


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

    @property
    def path(self) -> str:
        """Path of the operation in the program; "" for the compiler's own, as broadcast.540."""
        path = re.search(r'op_name="([^"]*)"', self.text)
        return "" if not path or re.fullmatch(r"[\w-]+\.\d+", path[1]) else path[1]

    @property
    def cycles(self) -> int:
        """The compiler's estimate of one run; 0 for kernels and collectives."""
        cycles = re.search(r'"estimated_cycles":"(\d+)"', self.text)
        return int(cycles[1]) if cycles else 0

    def list_result_bytes(self) -> list[int]:
        """Return the bytes of each array of the result, without padding."""
        return [_size(dtype, dims) for dtype, dims, _ in _ARRAY.findall(_split(self.text)[0])]

    def count_group(self, devices: int) -> int:
        """Return the number of devices in a group of a collective, `devices` if it names none."""
        if match := re.search(r"replica_groups=\{\{([\d,]+)\}", self.text):
            return match[1].count(",") + 1
        if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", self.text):
            return int(match[2])
        if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", self.text):
            sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
            return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
        return devices


def parse_module(hlo: str) -> tuple[dict[str, list[Instruction]], str]:
    """Return the instructions of each computation, and the name of the entry.

    Args:
      hlo: text of the module, from jax.stages.Compiled.as_text.
    """
    bodies: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            lines = bodies.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif match := _INSTRUCTION.match(line):
            lines.append(_parse(match[1], match[2]))
    return bodies, entry


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
