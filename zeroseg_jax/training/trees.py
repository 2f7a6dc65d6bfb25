"""Names of pytree leaves ("a/b/c"), flat dicts of leaves, and first-match rules over names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import traverse_util


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_named(fn: Callable[[str, Any], Any], tree: Any) -> Any:
    """Map fn(name, leaf) over a tree."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(_name(path), leaf), tree)


def first_match(rules: Sequence[tuple[str, Any]], name: str) -> Any:
    """Return the value of the first rule whose pattern occurs in `name`.

    Raises:
      KeyError: no rule matches; end the rules with (".*", default).
    """
    for pattern, value in rules:
        if re.search(pattern, name):
            return value
    raise KeyError(f"no rule for {name}")


def flatten(tree: Any) -> dict[str, Any]:
    """Flatten nested containers to {"a/b/c": leaf}, in the order of jax.tree.leaves."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def replace(tree: Any, flat: Mapping[str, Any]) -> Any:
    """Replace the leaves of a tree that are in {"a/b/c": leaf}.

    Raises:
      KeyError: a name that is no leaf of the tree.
    """
    if unknown := flat.keys() - flatten(tree).keys():
        raise KeyError(f"no leaves {', '.join(sorted(unknown))}")
    return map_named(lambda name, leaf: flat.get(name, leaf), tree)


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Build nested dicts from {"a/b/c": leaf}."""
    return traverse_util.unflatten_dict(flat, sep="/")
