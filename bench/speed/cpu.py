"""What users wait for on a CPU, beside an earlier commit: one table from one run.

    python -m bench.speed.cpu                      this commit alone
    python -m bench.speed.cpu --before=FOLDER      beside a checkout of bcb3e08

Rows: `zeroseg segment` of README's scene with the student that ships, with an empty cache (cold)
and with the one that this leaves (warm); `zeroseg evaluate` of that student with a filled cache; a
training step of ViT-B/16, and the same arithmetic in torch. Each is a process of its own, except
that the step is timed inside the process of its benchmark. The two commits alternate, and medians
count. Another earlier commit than bcb3e08 may need other flags in `_COMMANDS`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.speed.timing import time_process
from zeroseg_jax.commands import flags

_SCENE, _WORDS = "docs/images/scene.png", "moon; cross; sky; grass"
_SEGMENT = [_SCENE, f"--classes={_WORDS}", "--output={out}"]
_EVALUATE = [
    "--workdir=playground", "--benchmark=playground/full", "--preset=zeroseg", "--pictures=0",
    "--output={out}",
]  # fmt: skip
_COMMANDS = {
    "now": {
        "segment": ["-m", "zeroseg_jax", "segment", *_SEGMENT, "--model=playground"],
        "evaluate": ["-m", "zeroseg_jax", "evaluate", *_EVALUATE],
        "step": ["-m", "bench.speed.train_step", "--output={out}.json"],
    },
    "before": {
        "segment": ["-m", "zeroseg_jax.segment", *_SEGMENT],
        "evaluate": ["-m", "zeroseg_jax.evaluate", *_EVALUATE],
        "step": ["bench/train_step.py", "--output={out}.json"],
    },
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("before", "", "checkout of bcb3e08; empty: this commit alone")
    absl_flags.DEFINE_integer("repeats", 5, "number of processes of each row", 1)
    absl_flags.DEFINE_integer("images", 48, "number of evaluated scenes", 1)
    absl_flags.DEFINE_integer("rounds", 4, "number of timed steps of each side", 1)
    record.define_output("cpu")


def main(arguments: list[str]) -> None:
    """Time everything, print the table and write all seconds."""
    del arguments
    folders = {"now": Path.cwd()}
    if FLAGS.before:
        folders["before"] = Path(FLAGS.before)
    seconds: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sides = {name: _Side(name, folder, Path(scratch)) for name, folder in folders.items()}
        for i in range(FLAGS.repeats + 1):
            for side, run in sides.items():
                found = {name: run.time("segment", f"cache-{i}") for name in ("cold", "warm")}
                found["evaluate"] = run.time("evaluate", "cache", f"--images={FLAGS.images}")
                # The first round reads packages from disk and fills the cache of `evaluate`.
                for name, value in found.items() if i else ():
                    seconds.setdefault(name, {}).setdefault(side, []).append(round(value, 2))
        record.write({"seconds": seconds, "images": FLAGS.images})
        for side, run in sides.items():
            steps = run.time_steps()
            seconds.setdefault("step", {})[side] = steps["zeroseg_jax"]
            seconds["step"][f"torch, {side}"] = steps["torch"]
    record.write({"seconds": seconds, "images": FLAGS.images})
    print(render_table(seconds))


class _Side:
    """One commit: its folder, and how its commands are run."""

    def __init__(self, name: str, folder: Path, scratch: Path):
        self._commands, self._folder, self._scratch = _COMMANDS[name], folder, scratch / name
        self._output = self._scratch / "out"
        self._scratch.mkdir()

    def time(self, command: str, cache: str, *extra: str) -> float:
        """Return the seconds of a process from start to end; its cache is of this commit."""
        shutil.rmtree(self._output, ignore_errors=True)
        words = [word.format(out=self._output) for word in self._commands[command]]
        took, _ = time_process(
            [sys.executable, *words, *extra], self._scratch / cache, self._folder
        )
        print(f"{self._folder.name}: {command} {took:.2f} s", flush=True)
        return took

    def time_steps(self) -> dict[str, list[float]]:
        """Return the seconds of each training step, of ours and of torch's."""
        self.time("step", "cache", f"--rounds={FLAGS.rounds}")
        return json.loads(self._output.with_suffix(".json").read_text())["seconds"]


def render_table(seconds: dict[str, dict[str, list[float]]]) -> str:
    """Render medians, and the ratio to the earlier commit, as a Markdown table."""
    lines = ["| | now, s | before, s | now over before |", "|---|---:|---:|---:|"]
    rows = {name: (sides["now"], sides.get("before")) for name, sides in seconds.items()}
    if torch := seconds.get("step", {}).get("torch, now"):
        rows["step in torch"] = (torch, seconds["step"].get("torch, before"))
    for name, (now, before) in rows.items():
        new = statistics.median(now)
        old = statistics.median(before) if before else None
        compared = f"{old:.2f} | {new / old:.2f}" if old else " | "
        lines.append(f"| {name} | {new:.2f} | {compared} |")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
