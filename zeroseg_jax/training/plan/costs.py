"""Operations of a step, from its jaxpr: loops count as often as they run.

XLA's cost analysis counts the body of a loop once.
"""

from __future__ import annotations

import math
from collections import Counter
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
    return sum(split_flops(fn, *arguments).values())


def split_flops(fn: Callable[..., Any], *arguments: Any) -> dict[str, int]:
    """Count operations as count_flops does, by path: names of modules and transformations.

    A path is for example "jvp(Student)/encoder/blocks_3/mlp/fc1".
    """
    return _split_jaxpr(jax.make_jaxpr(fn)(*arguments).jaxpr)


def _split_jaxpr(jaxpr: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        place = str(equation.source_info.name_stack)
        for inner, count in _split_equation(equation).items():
            found["/".join(filter(None, (place, inner)))] += count
    return found


def _split_equation(equation: Any) -> dict[str, int]:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return {"": 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)}
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        return {"": 2 * equation.outvars[0].aval.size * kernel.size // outputs}
    if name == "pallas_call":
        return {"": int(params["cost_estimate"].flops)}
    if name == "shard_map":  # its jaxpr has the shapes of one device
        return _scale(_split_jaxpr(params["jaxpr"]), int(params["mesh"].size))
    if name == "scan":
        return _scale(_split_jaxpr(params["jaxpr"].jaxpr), params["length"])
    if name == "while":
        if any(_split_inner(params).values()):
            raise ValueError("a matrix product runs in a loop of unknown length; use lax.scan.")
        return {}
    if name == "cond":
        branches = [_split_jaxpr(branch.jaxpr) for branch in params["branches"]]
        return max(branches, key=lambda branch: sum(branch.values()))
    return _split_inner(params)


def _scale(found: dict[str, int], times: int) -> dict[str, int]:
    return {path: times * count for path, count in found.items()}


def _split_inner(params: dict[str, Any]) -> Counter[str]:
    return sum(map(_split_jaxpr, _inner_jaxprs(params)), Counter())


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
