"""Recipes of --config: shipped names, files, variants; checks of --config.FIELD overrides."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent.parent / "assets" / "recipes"  # in the repository: configs/


def list_recipes() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(path.stem for path in RECIPES.glob("[!_]*.py") if path.stem != "base")


def find_recipe(value: str) -> str:
    """Return FILE.py[:variant] for a value of --config.

    Args:
      value: NAME[:variant] of a shipped recipe, or FILE.py[:variant].

    Raises:
      ValueError: no such recipe or file, or a file that is no recipe.
    """
    from zeroseg_jax.config import suggest

    name, colon, variant = value.partition(":")
    if not name.endswith(".py"):
        if name not in list_recipes():
            hint = suggest(name, list_recipes())
            raise ValueError(f"--config: {name!r} is not a shipped recipe; {hint}")
        name = str(RECIPES / f"{name}.py")
    elif not Path(name).is_file():
        hint = suggest(Path(name).stem, list_recipes(), "--config=")
        raise ValueError(f"--config: {name} is not a file; for a shipped recipe, {hint}")
    _check_file(Path(name))
    return f"{name}{colon}{variant}"


def shorten_recipe(value: str) -> str:
    """Return NAME[:variant] for the file of a shipped recipe, any other value unchanged."""
    file, colon, variant = value.partition(":")
    return f"{Path(file).stem}{colon}{variant}" if Path(file).parent == RECIPES else value


def load_sweep(recipe: str) -> list[dict[str, Any]]:
    """Return what sweep() of a recipe yields: the overrides of each point.

    Args:
      recipe: value of --config.

    Raises:
      ValueError: the recipe has no sweep(), or one that yields nothing.
    """
    file, _, variant = find_recipe(recipe).partition(":")
    spec = importlib.util.spec_from_file_location("sweep_config", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config: {file} is not a Python file; give a recipe.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        raise ValueError(f"--config: {file} has no sweep(); add one that yields overrides.")
    # A sweep() with a parameter differs by variant of the recipe.
    takes_variant = variant and inspect.signature(module.sweep).parameters
    points = list(module.sweep(variant) if takes_variant else module.sweep())
    if not points:
        raise ValueError(f"--config: sweep() of {file} yields nothing; yield one dict per point.")
    return points


def override(tree: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """Set the fields of a point of a sweep in a nested mapping, and return it.

    Raises:
      ValueError: a field is below a value.
    """
    for name, value in point.items():
        *parents, last = name.split(".")
        node: Any = tree
        for part in parents:
            node = node.get(part)
            if not isinstance(node, dict):
                raise ValueError(f"sweep(): {name} is not a field; {part} has no fields.")
        node[last] = value
    return tree


def check_override(name: str) -> None:
    """Refuse the name of a --config.FIELD flag that is not a field.

    Args:
      name: text after "--config.", for example "optim.steps".

    Raises:
      ValueError: an unknown field, a group, or a path below a value.
    """
    from zeroseg_jax.config import Config, suggest, to_mapping

    node: Any = to_mapping(Config())
    done = ""
    for part in name.split("."):
        if not isinstance(node, dict):
            raise ValueError(
                f"--config.{name}: {done[:-1]} has no fields; use --config.{done[:-1]}=VALUE."
            )
        if part not in node:
            hint = suggest(part, node, f"--config.{done}")
            raise ValueError(f"--config.{name}: no such field; {hint}")
        node, done = node[part], f"{done}{part}."
    if isinstance(node, dict):
        raise ValueError(f"--config.{name}: a group of fields; set one of {', '.join(node)}.")


def explain_override(message: str, argv: list[str]) -> str:
    """Return one sentence for absl's message about the value of a --config.FIELD flag.

    Args:
      message: text of the exception.
      argv: command line.

    Returns:
      The sentence; empty for another message.
    """
    from zeroseg_jax.config import explain_text

    if not (match := re.match(r"flag --config\.([\w.]+)=", message)):
        return ""
    typed = ""
    for argument, after in zip(argv, [*argv[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if flag.lstrip("-") == f"config.{match[1]}":
            typed = value if equals else after
    return explain_text(match[1], typed)


def resolve_arguments(argv: list[str]) -> list[str]:
    """Return a command line with the recipe of --config as a file, its overrides checked.

    Raises:
      ValueError: see find_recipe and check_override.
    """
    found = list(argv)
    end = found.index("--") if "--" in found else len(found)
    for i, argument in enumerate(found[:end]):
        flag, equals, value = argument.partition("=")
        flag = flag.replace("--", "-", 1)
        if flag.startswith("-config."):
            check_override(flag.removeprefix("-config."))
        elif flag == "-config" and equals:
            found[i] = f"--config={find_recipe(value)}"
        elif flag == "-config" and i + 1 < end:
            found[i + 1] = find_recipe(found[i + 1])
    return found


def _check_file(path: Path) -> None:
    try:
        source = path.read_text()
        ast.parse(source, str(path))
    except SyntaxError as error:
        raise ValueError(
            f"--config: {path}, line {error.lineno}: {error.msg}; correct it."
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--config: {path} is not UTF-8 text; give a Python file.") from error
    if "get_config" not in source:
        raise ValueError(f"--config: {path} has no get_config(); add one that returns a config.")
