"""What every entry point shares: --config, --workdir, and errors as one sentence."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from zeroseg_jax.config import Config, from_mapping

_USAGE_EXIT, _FAILURE_EXIT = 2, 1


def define_recipe() -> None:
    """Define --config=FILE.py[:variant], with --config.field=value overrides."""
    config_flags.DEFINE_config_file(
        "config", None, "recipe, for example configs/playground.py:default", lock_config=True
    )
    flags.mark_flags_as_required(["config"])


def define_config() -> None:
    """Define what define_recipe does, and --workdir."""
    define_recipe()
    flags.DEFINE_string("workdir", None, "directory of the run")
    flags.mark_flags_as_required(["workdir"])


def read_config() -> tuple[Config, dict[str, Any]]:
    """Return the typed config and the overrides given on the command line."""
    config = flags.FLAGS.config
    names = config_flags.get_override_values(flags.FLAGS["config"])
    return from_mapping(config.to_dict()), {name: _lookup(config, name) for name in names}


def _lookup(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def run(main: Callable[[list[str]], int | None], define: Callable[[], None]) -> None:
    """Define flags, parse them and run `main(arguments)` as a program.

    A ValueError or OSError is the user's to mend: its message is printed as one line and the
    exit code is 2. Anything else is a fault of the program and keeps its traceback.
    """

    def guarded(argv: list[str]) -> int:
        # Checkpointing tells its whole life at the level of info.
        logging.set_verbosity(logging.WARNING)
        try:
            return main(argv[1:]) or 0
        except (ValueError, OSError) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return _USAGE_EXIT

    define()
    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        # What a recipe raises arrives as the text of its whole traceback; its end counts.
        message = str(error)
        if "Traceback (most recent call last)" in message:
            message = message.strip().splitlines()[-1].partition(": ")[2] or message
    except AttributeError as error:
        # ml_collections names an unknown --config.field, and its suggestion on a second line.
        unknown, *near = re.findall(r"\w+", re.sub(r"\\n|Did you mean|instead of", " ", str(error)))
        hint = f"; did you mean {near[0]}?" if near else "; zeroseg_jax/config.py lists them all."
        message = f"--config: no field is called {unknown}{hint}"
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(_USAGE_EXIT)


def suggest(word: str, known: list[str]) -> str:
    """Return a hint that names the nearest of `known`, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
