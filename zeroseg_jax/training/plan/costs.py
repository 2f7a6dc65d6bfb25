"""Costs of a step: operations from its jaxpr, collectives from its compiled program.

XLA's cost analysis counts the body of a loop once. Both counts here multiply it by the number of
iterations.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

_SIZES = {
    "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip
COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|to_apply|calls|branch_computations)=\{?%?([\w.\-]+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


def count_flops(fn: Callable[..., Any], *arguments: Any) -> int:
    """Count the operations of all matrix products and convolutions, two per multiply-add.

    Args:
      fn: function to trace; it is not run.
      arguments: arrays or shapes.

    Raises:
      ValueError: a matrix product in a loop of unknown length.
    """
    return _count_jaxpr(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _count_jaxpr(jaxpr: Any) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return 2 * equation.outvars[0].aval.size * kernel.size // outputs
    if name == "scan":
        return params["length"] * _count_jaxpr(params["jaxpr"].jaxpr)
    if name == "while":
        inside = sum(_count_jaxpr(inner) for inner in _inner_jaxprs(params))
        if inside:
            raise ValueError("a matrix product runs in a loop of unknown length; use lax.scan.")
        return 0
    if name == "cond":
        return max(_count_jaxpr(branch.jaxpr) for branch in params["branches"])
    return sum(_count_jaxpr(inner) for inner in _inner_jaxprs(params))


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


@dataclasses.dataclass(frozen=True)
class Collective:
    """Number of collectives of one kind, and bytes that they send, per step and device."""

    count: int
    bytes: float


def count_collectives(hlo: str, devices: int) -> dict[str, Collective]:
    """Count the collectives of a compiled program and the bytes that a ring sends for them.

    Each of n devices sends (n - 1) / n of the array for all-gather (the result), reduce-scatter
    (the input) and all-to-all, twice that for all-reduce, and the whole array for
    collective-permute. JAX has no interface for these counts, so the HLO text is parsed.

    Args:
      hlo: text of the compiled module.
      devices: number of devices of the program, used for implicit groups.
    """
    bodies = _split_computations(hlo)
    times = _count_calls(bodies)
    found: dict[str, list[float]] = {}
    seen: set[str] = set()
    for name, lines in bodies.items():
        for line in lines:
            if match := _COLLECTIVE.search(line):
                # Pieces of a collective that the compiler splits for overlap share a channel.
                channel = _CHANNEL.search(line)
                if channel and channel[1] in seen:
                    continue
                seen.add(channel[1] if channel else "")
                kind = match[2]
                total = found.setdefault(kind, [0, 0.0])
                total[0] += times.get(name, 1)
                total[1] += times.get(name, 1) * _sent_bytes(line, match, devices)
    return {kind: Collective(int(n), size) for kind, (n, size) in sorted(found.items())}


def _split_computations(hlo: str) -> dict[str, list[str]]:
    bodies: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            lines = bodies.setdefault(match[1], [])
        else:
            lines.append(line)
    return bodies


def _count_calls(bodies: dict[str, list[str]]) -> dict[str, int]:
    """Return the number of runs of each computation inside loops; others run once."""
    times: dict[str, int] = {}
    # In the text a caller follows the computations that it calls.
    for name in reversed(bodies):
        for line in bodies[name]:
            trips = _TRIPS.search(line)
            factor = int(trips[1]) if trips and " while(" in line else 1
            for called in _CALLED.findall(line):
                times[called] = times.get(name, 1) * factor
    return times


def _sent_bytes(line: str, match: re.Match[str], devices: int) -> float:
    kind, started = match[2], match[3]
    shapes = [
        _SIZES.get(dtype, 4) * math.prod(int(side) for side in sides.split(",") if side)
        for dtype, sides in _ARRAY.findall(match[1])
    ]
    # A started gather or permute returns its operands together with its results.
    pair = started and kind in ("all-gather", "collective-permute")
    result = max(shapes) if pair else sum(shapes)
    group = _group_size(line, devices)
    share = (group - 1) / group
    factors = {"all-reduce": 2 * share, "reduce-scatter": share * group, "collective-permute": 1.0}
    return result * factors.get(kind, share)


def _group_size(line: str, devices: int) -> int:
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return match[1].count(",") + 1
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    return devices
