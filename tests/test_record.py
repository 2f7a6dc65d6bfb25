"""Recorder of the benchmarks in bench/: flags, command, resumption."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCH = """
from absl import flags as absl_flags

from bench import record
from zeroseg_jax.commands import flags


def define_flags():
    record.define_output("example")
    absl_flags.DEFINE_integer("rounds", 3, "number of rounds")
    absl_flags.DEFINE_string("directory", "", "folder of images")
    absl_flags.DEFINE_string("before", "", "folder of another commit")


def main(arguments):
    results = record.read_earlier() or {"runs": []}
    record.write({**results, "runs": results["runs"] + [absl_flags.FLAGS.rounds]})


if __name__ == "__main__":
    flags.run(main, define_flags)
"""


def test_results_come_with_command_and_machine_and_are_resumed(tmp_path):
    (tmp_path / "example.py").write_text(BENCH)
    output = tmp_path / "folder" / "example.json"
    for rounds in (4, 5):
        subprocess.run(
            [sys.executable, "-m", "example", f"--rounds={rounds}", "--directory=/home/someone",
             "--before=/home/someone/old", f"--output={output}"],
            check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        )  # fmt: skip
    content = json.loads(output.read_text())
    assert content["runs"] == [4, 5]
    assert list(content)[0] == "command" and content["packages"]["jax"]
    assert content["command"] == ("python -m example --rounds=5 --directory=FOLDER --before=FOLDER")
