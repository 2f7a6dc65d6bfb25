"""Names of pytree leaves ("a/b/c") and first-match rules over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


def name_of(path: Sequence[Any]) -> str:
    """Join a key path of jax.tree_util into "a/b/c"."""
    keys = (getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))) for key in path)
    return "/".join(str(key) for key in keys)


def map_named(fn: Callable[[str, Any], Any], tree: Any) -> Any:
    """Map fn(name, leaf) over a tree."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(name_of(path), leaf), tree)


def first_match(rules: Sequence[tuple[str, Any]], name: str) -> Any:
    """Return the value of the first rule whose pattern is found in `name`.

    Raises:
      KeyError: no rule fits; end the rules with (".*", default).
    """
    for pattern, value in rules:
        if re.search(pattern, name):
            return value
    raise KeyError(f"no rule for {name}")


def flatten(tree: Any) -> dict[str, Any]:
    """Flatten nested containers into {"a/b/c": leaf}."""
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def name_leaves(tree: Any) -> list[str]:
    """Return the names of all leaves, in the order of jax.tree.leaves."""
    return list(flatten(tree))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flatten`."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree
