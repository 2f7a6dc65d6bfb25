"""Flags shared by the commands, user errors as one sentence, and the compilation cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags, logging

from zeroseg_jax.commands.flag_errors import NO_CONFIG, explain
from zeroseg_jax.commands.recipes import resolve_arguments, shorten_recipe
from zeroseg_jax.teacher.aliases import DEFAULT

if TYPE_CHECKING:
    from zeroseg_jax.config import Config

USAGE_EXIT = 2


def define_recipe() -> None:
    """Define --config=RECIPE[:variant], with --config.field=value overrides."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file(
        "config", None, "recipe by name or file, for example photos:small", lock_config=True
    )
    flags.mark_flag_as_required("config")


def define_config() -> None:
    """Define --config and --workdir."""
    define_recipe()
    flags.DEFINE_string("workdir", None, "directory of the run, or gs://BUCKET/NAME")
    flags.mark_flag_as_required("workdir")


def define_model(default: str | None = DEFAULT) -> None:
    """Define --model (or --workdir), --teacher and --readout; None makes --model required."""
    flags.DEFINE_string(
        "model", default, "name in `zeroseg models`, hf:owner/name@revision, A+B, run, exported "
        "model, directory of a CLIP, or 'playground' (drawn shapes only)", required=default is None
    )  # fmt: skip
    flags.DEFINE_alias("workdir", "model")
    flags.DEFINE_string("teacher", "", "directory of a student's CLIP; empty: the one of the run")
    flags.DEFINE_string("readout", "", "dense read-out of a CLIP; empty: the model's default")


def define_label_options() -> None:
    """Define --ignore and --reduce_zero: the meaning of the labels of benchmark `folder`."""
    flags.DEFINE_integer("ignore", 255, "label of ignored pixels (benchmark folder); -1: none")
    flags.DEFINE_boolean(
        "reduce_zero", False, "shift of the labels: 0 is ignored, 1 is class 0 (benchmark folder)"
    )


def read_config() -> tuple[Config, dict[str, Any]]:
    """Return the typed config, and the overrides given on the command line by field name."""
    from ml_collections import ConfigDict, config_flags

    from zeroseg_jax.config import from_mapping

    config = flags.FLAGS.config
    if not isinstance(config, ConfigDict):
        found = type(config).__name__
        raise ValueError(
            f"--config: get_config() of {recipe_name()} returns {found}; return a ConfigDict."
        )
    names = config_flags.get_override_values(flags.FLAGS["config"])
    return from_mapping(config.to_dict()), {name: _lookup(config, name) for name in names}


def recipe_name() -> str:
    """Return the value of --config: NAME[:variant] of a shipped recipe, or FILE.py[:variant]."""
    from ml_collections import config_flags

    return shorten_recipe(config_flags.get_config_filename(flags.FLAGS["config"]))


def _lookup(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def use_compilation_cache() -> None:
    """Cache compiled programs in ~/.cache/zeroseg_jax; JAX_COMPILATION_CACHE_DIR overrides it."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        jax.config.update("jax_compilation_cache_dir", os.path.join(root, "zeroseg_jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # A short command has several programs that compile in less than JAX's limit of 1 s.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def define_alone(define: Callable[[], None]) -> dict[str, flags.Flag]:
    """Return the flags that `define` adds, by name, and remove them from FLAGS again."""
    before = set(flags.FLAGS)
    made: dict[str, flags.Flag] = {}
    try:
        define()
    finally:
        made = {name: flags.FLAGS[name] for name in sorted(set(flags.FLAGS) - before)}
        for name in made:
            delattr(flags.FLAGS, name)
    return made


def run(
    main: Callable[[list[str]], int | None], define: Callable[[], None], example: str = ""
) -> None:
    """Define flags, parse sys.argv, call `main(arguments)` and exit with the code it returns.

    ValueError and OSError are user errors: the message is printed on one line, exit code 2. Any
    other exception is a fault of the program and keeps its traceback.

    Args:
      main: function of a command; takes the arguments that are not flags.
      define: function that defines the flags of the command.
      example: command line shown when a required flag is missing.
    """
    from absl import app

    def guarded(argv: list[str]) -> int:
        logging.set_verbosity(logging.WARNING)  # Orbax is verbose at INFO.
        try:
            code = main(argv[1:]) or 0
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            return _report(str(error))

    absl_names = set(flags.FLAGS)
    define()
    own = ["help", *sorted(set(flags.FLAGS) - absl_names)]
    app.run(guarded, flags_parser=lambda argv: _parse(argv, own, example))


def _report(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return USAGE_EXIT


def _parse(argv: list[str], own: list[str], example: str) -> list[str]:
    try:
        # convert_teacher has a --config of its own, a file of Hugging Face.
        if "config" in flags.FLAGS and flags.FLAGS["config"].flag_type() == "config object":
            argv = resolve_arguments(argv)
        _check_names(argv, own)
        return flags.FLAGS(argv)
    except ValueError as error:
        message = str(error)
    except flags.Error as error:
        message = explain(error, argv, own, example)
    except ImportError as error:
        message = f"--config: the recipe cannot be imported ({error}); correct its imports."
    except KeyError as error:
        if "NoneType" not in str(error):
            raise
        message = NO_CONFIG
    sys.exit(_report(message))


def _check_names(argv: list[str], own: list[str]) -> None:
    """Refuse absl's own flags, which `--help` does not list."""
    foreign = {*flags.FLAGS, "flagfile", "undefok"} - set(own)
    for argument in argv[1 : argv.index("--") if "--" in argv else len(argv)]:
        name = argument.lstrip("-").partition("=")[0]
        bare = name.removeprefix("no")
        if argument.startswith("-") and {name, bare} & foreign:
            raise flags.UnrecognizedFlagError(name, "", [])
