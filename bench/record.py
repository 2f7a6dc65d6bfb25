"""Recorder of benchmark results: one JSON file with command, results, versions, machine, commit."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags
from absl.flags import FLAGS

from zeroseg_jax.data.files import read_json, write_json
from zeroseg_jax.training.workdir import describe_machine


def define_output(name: str) -> None:
    """Define --output, docs/results/NAME.json by default."""
    flags.DEFINE_string(
        "output",
        f"docs/results/{name}.json",
        "JSON file of the raw results",
        module_name=sys.argv[0],  # listed by --help like the flags of the benchmark itself
    )


def read_earlier(path: Path | None = None) -> dict[str, Any]:
    """Read the results of an interrupted run.

    Args:
      path: JSON file; None for --output.

    Returns:
      The recorded results; empty if there are none.
    """
    path = path or Path(FLAGS.output)
    return read_json(path, remedy="remove it") if path.is_file() else {}


def write(results: dict[str, Any], path: Path | None = None) -> dict[str, Any]:
    """Write results with the command and a description of the machine.

    Args:
      results: results, JSON types only; an earlier command or machine in them is replaced.
      path: JSON file; None for --output.

    Returns:
      The content of the file.
    """
    content = {"command": "", **results, **describe_machine()}
    content["command"] = render_command()
    write_json(path or Path(FLAGS.output), content)
    return content


def render_command() -> str:
    """Render the command line of this process; folders of the user are replaced by FOLDER."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    words = ["python", "-m", spec.name] if spec else ["python", sys.argv[0]]
    for flag in FLAGS.get_flags_for_module(sys.modules["__main__"]):
        if flag.present and flag.name not in ("output", "workdir"):
            folder = flag.name in ("directory", "before")
            words.append(f"--{flag.name}=FOLDER" if folder else flag.serialize())
    return shlex.join(words)
