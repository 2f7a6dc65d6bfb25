"""Operations of a step, from its jaxpr: loops count as often as they run.

XLA's cost analysis counts the body of a loop once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


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
    if name == "pallas_call":
        return int(params["cost_estimate"].flops)
    if name == "shard_map":  # its jaxpr has the shapes of one device
        return int(params["mesh"].size) * _count_jaxpr(params["jaxpr"])
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
