"""Command line of the package: zeroseg VERB ..., the same as python -m zeroseg_jax VERB ...

Exit codes: 0 done; 1 part of the work failed, each part named; 2 usage error, in one sentence;
130 and 143 stopped by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType

from zeroseg_jax.commands.signals import end_on_signals
from zeroseg_jax.commands.verbs import VERBS

_USAGE_EXIT, _BROKEN_PIPE_EXIT = 2, 141


def main() -> int:
    """Run the command of sys.argv and return the exit code."""
    sys.argv[0], arguments = "zeroseg", sys.argv[1:]
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        from zeroseg_jax.commands.extras import explain_missing

        if not (
            sentence := explain_missing(
                error, " ".join(["zeroseg", *arguments[arguments[:1] == ["help"] :][:1]])
            )
        ):
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return _USAGE_EXIT
    except BrokenPipeError:
        # The reader of the pipe, for example head, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_EXIT


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if arguments[:1] == ["-v"]:
        arguments = ["--version"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(render_help())
        return 0 if arguments else _USAGE_EXIT
    if arguments[0] == "--version":
        from zeroseg_jax.commands.extras import find_version

        print(f"zeroseg_jax {find_version()}")
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        from zeroseg_jax.config import suggest

        names = ("--version", "--help") if verb.startswith("-") else VERBS
        print(f"error: unknown command {verb!r}; {suggest(verb, names)}", file=sys.stderr)
        return _USAGE_EXIT
    module, define = load_verb(verb)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if {"-h", "--help"} & set(options):
        print(render_verb_help(verb))
        return 0
    from zeroseg_jax.commands import flags

    sys.argv = [f"zeroseg {verb}", *arguments[1:]]
    flags.run(module.main, define, VERBS[verb][1])
    return 0


def load_verb(verb: str) -> tuple[ModuleType, Callable[[], None]]:
    """Import the module of a verb; return it and its function that defines the flags."""
    module = importlib.import_module(f"zeroseg_jax.commands.{verb.replace('-', '_')}")
    return module, module.define_flags


def render_help() -> str:
    """Return the text of `zeroseg --help`."""
    width = max(map(len, VERBS))
    lines = ["Open-vocabulary segmentation without labels.", "", "usage: zeroseg VERB [FLAGS]", ""]
    for verb, (purpose, example) in VERBS.items():
        lines += [f"  {verb:{width}}  {purpose}", f"  {'':{width}}    {example}"]
    lines += [
        "",
        "zeroseg VERB --help lists the flags. Exit codes: 0 done, 1 part failed, 2 usage error.",
    ]
    return "\n".join(lines)


def render_verb_help(verb: str) -> str:
    """Return the text of `zeroseg VERB --help`: purpose, example, description and flags."""
    from zeroseg_jax.commands import flags

    module, define = load_verb(verb)
    purpose, example = VERBS[verb]
    lines = [f"zeroseg {verb}: {purpose}.", "", f"example: {example}", ""]
    lines += [(module.__doc__ or "").strip(), "", "flags:"]
    columns = max(40, shutil.get_terminal_size().columns)
    for name, flag in flags.define_alone(define).items():
        required = any("must have a value" in check.message for check in flag.validators)
        default = "required" if required else f"default {flag.default!r}"
        text = f"--{name}  {flag.help} ({default})"
        lines.append(
            textwrap.fill(text, columns, initial_indent="  ", subsequent_indent=" " * 6,
                          break_long_words=False, break_on_hyphens=False)
        )  # fmt: skip
    return "\n".join(lines)
