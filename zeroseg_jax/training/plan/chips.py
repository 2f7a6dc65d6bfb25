"""TPU chips with the published memory sizes and rates, and parsing of topologies.

Source: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, "System architecture", read in 2026.
These pages give the interconnect of a chip over all links in both directions; this table has half
of it, one direction. For v6e they have given 3200 and 3584 Gbit/s; this table has the smaller.
They give no clock: it is the one at which the matrix units (4 of 128 x 128 on v5e, 8 on v4 and v5p,
4 of 256 x 256 on v6e and on each device of tpu7x) reach the published operations per second. None
of the numbers was measured by this project.
"""

from __future__ import annotations

import dataclasses
import math

_GB = 1e9
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published numbers of a chip.

    Attributes:
      flops: bfloat16 operations per second.
      hbm_bytes: memory in bytes.
      hbm_rate: bytes per second to and from memory.
      link_rate: bytes per second to neighbours, one direction, over all links.
      clock: cycles per second.
      devices: number of JAX devices per chip in a topology.
      dimensions: dimensions of the torus.
    """

    flops: float
    hbm_bytes: float
    hbm_rate: float
    link_rate: float
    clock: float
    devices: int
    dimensions: int


CHIPS = {
    "v4": Chip(275e12, 32 * _GIB, 1228 * _GB, 300 * _GB, 1.05e9, 2, 3),
    "v5e": Chip(197e12, 16 * _GIB, 819 * _GB, 200 * _GB, 1.5e9, 1, 2),
    "v5p": Chip(459e12, 95 * _GIB, 2765 * _GB, 600 * _GB, 1.75e9, 1, 3),
    "v6e": Chip(918e12, 32 * _GIB, 1640 * _GB, 400 * _GB, 1.75e9, 1, 2),
    "tpu7x": Chip(2307e12, 192 * _GIB, 7380 * _GB, 600 * _GB, 2.2e9, 2, 3),
}


def parse_topology(topology: str) -> tuple[Chip, int]:
    """Return the chip and the number of chips of a topology such as "v5e:8x8".

    Raises:
      ValueError: an unknown chip, or another number of dimensions than the chip has.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS:
        raise ValueError(
            f"--topology: {topology!r} names no known chip; write KIND:SHAPE with one of "
            f"{', '.join(CHIPS)}, for example v5e:8x8 or v5p:4x4x4."
        )
    chip, sides = CHIPS[name], shape.split("x")
    if len(sides) != chip.dimensions or not all(s.isdigit() and int(s) for s in sides):
        example = "x".join(["4"] * chip.dimensions)
        raise ValueError(
            f"--topology: {topology!r} does not have {chip.dimensions} sides, as a {name} slice "
            f"has; for example {name}:{example}."
        )
    return chip, math.prod(map(int, sides))
