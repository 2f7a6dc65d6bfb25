"""The console script: zeroseg VERB ..., the same entry points as python -m zeroseg_jax.VERB.

Exit codes: 0 done; 1 part of the work failed, each part named; 2 misuse, in one sentence.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_USAGE_EXIT = 2
_WORKDIR = "--workdir=runs/photos"
_PHOTOS = f"--config=configs/photos.py {_WORKDIR} --config.data.directory=FOLDER"

# verb -> (what it does, an example); a verb is there when its module is.
VERBS: dict[str, tuple[str, str]] = {
    "segment": (
        "segment pictures, folders or videos with words",
        'zeroseg segment photo.jpg --classes "cat; grass; sky"',
    ),
    "serve": ("open a local page to try pictures and words", "zeroseg serve --port=8000"),
    "prepare": ("encode each image once with the teacher", f"zeroseg prepare {_PHOTOS}"),
    "plan": ("tell memory and time before a run", f"zeroseg plan {_PHOTOS}"),
    "train": ("train a student from the bank, or go on", f"zeroseg train {_PHOTOS}"),
    "sweep": ("run a recipe over several settings", "zeroseg sweep --help"),
    "evaluate": (
        "score a model on a benchmark",
        f"zeroseg evaluate {_WORKDIR} --benchmark=playground/things --output=report",
    ),
    "compare": ("put several reports side by side", "zeroseg compare --help"),
    "vote": (
        "name a folder's segments with 1,000 words, and a page for human votes",
        "zeroseg vote FOLDER --output=votes",
    ),
    "verify": ("check a data set on disk", "zeroseg verify --help"),
    "export": (
        "write a student for others, or as StableHLO",
        f"zeroseg export {_WORKDIR} --output=student --format=stablehlo",
    ),
    "demo": ("the whole job on the Playground", "zeroseg demo --workdir=runs/demo"),
    "completion": (
        "print completion for bash or zsh",
        "zeroseg completion bash > ~/.local/share/bash-completion/completions/zeroseg",
    ),
}


def list_verbs() -> list[str]:
    """Return the verbs whose modules are there, in the order of the table."""
    folder = Path(__file__).parent
    return [verb for verb in VERBS if (folder / f"{verb}.py").is_file()]


def load_verb(verb: str) -> tuple[ModuleType, Callable[[], None]]:
    """Import a verb's module; return it and what defines its flags."""
    from zeroseg_jax.commands import flags

    module = importlib.import_module(f"zeroseg_jax.commands.{verb}")
    return module, getattr(module, "define_flags", flags.define_config)


def main() -> int | None:
    """Hand the command line over to a verb."""
    verbs, arguments = list_verbs(), sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(write_help(verbs))
        return 0 if arguments else _USAGE_EXIT
    if arguments[0] == "--version":
        import importlib.metadata

        print(f"zeroseg_jax {importlib.metadata.version('zeroseg_jax')}")
        return 0
    verb = arguments[0]
    if verb not in verbs:
        near = difflib.get_close_matches(verb, verbs, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(verbs)}."
        print(f"error: {verb!r} is no verb of zeroseg; {hint}", file=sys.stderr)
        return _USAGE_EXIT
    module, define = load_verb(verb)
    if "--" not in arguments and {"-h", "--help"} & set(arguments):
        print(write_verb_help(verb, module, define))
        return 0
    from zeroseg_jax.commands import flags

    sys.argv = [f"zeroseg {verb}", *arguments[1:]]
    return flags.run(module.main, define)


def write_help(verbs: list[str]) -> str:
    """Write what `zeroseg --help` prints."""
    wide = max(map(len, verbs))
    lines = ["Open-vocabulary segmentation without labels.", "", "usage: zeroseg VERB [FLAGS]", ""]
    for verb in verbs:
        what, example = VERBS[verb]
        lines += [f"  {verb:{wide}}  {what}", f"  {'':{wide}}    {example}"]
    lines += [
        "",
        "zeroseg VERB --help lists the flags. Exit codes: 0 done, 1 part failed, 2 misuse.",
    ]
    return "\n".join(lines)


def write_verb_help(verb: str, module: ModuleType, define: Callable[[], None]) -> str:
    """Write what `zeroseg VERB --help` prints: what it is, an example, its flags."""
    what, example = VERBS[verb]
    lines = [f"zeroseg {verb}: {what}.", "", f"example: {example}", ""]
    lines += [(module.__doc__ or "").strip(), "", "flags:"]
    for name, flag in define_alone(define).items():
        default = "required" if flag.default is None else f"default {flag.default!r}"
        lines.append(f"  --{name}  {flag.help} ({default})")
    return "\n".join(lines)


def define_alone(define: Callable[[], None]) -> dict[str, Any]:
    """Run `define` and return the flags that it made, taken out again."""
    from absl.flags import FLAGS

    before = set(FLAGS)
    define()
    made = {name: FLAGS[name] for name in sorted(set(FLAGS) - before)}
    for name in made:
        delattr(FLAGS, name)
    return made
