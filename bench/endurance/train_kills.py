"""Kill training at random moments, again and again, and compare with an undisturbed run.

    python -m bench.endurance.train_kills --kills=20

Every kill is SIGKILL, at a moment drawn evenly between a start's first step and twice the time
that an undisturbed run takes for this kill's share of the steps left; a checkpoint is saved after
every step, so that many kills fall into a save. The end must be equal bit for bit: parameters, and
the loss of every step.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.training import trees
from zeroseg_jax.training.checkpoint import load_params


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("kills", 20, "how many, at least", lower_bound=1)
    absl_flags.DEFINE_integer("steps", 60, "of the run", lower_bound=2)
    record.define_output("train_kills")


def main(arguments: list[str]) -> None:
    """Run undisturbed, run with kills, compare."""
    del arguments
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed, bank = (Path(folder) / name for name in ("whole", "killed", "bank"))
        _run("prepare", whole, bank).wait()
        process = _run("train", whole, bank)
        while process.poll() is None and not _last_step(whole):
            time.sleep(0.01)
        begin = time.time()
        if process.wait():
            raise RuntimeError("the undisturbed run failed")
        usual = time.time() - begin
        kills, starts, during_save = 0, 0, 0
        while not (killed / "checkpoints" / str(FLAGS.steps)).is_dir():
            process = _run("train", killed, bank)
            starts += 1
            before = _last_step(killed)
            while process.poll() is None and _last_step(killed) == before:
                time.sleep(0.002)
            # On average a kill takes its share of the steps that are left, so that all find room.
            share = (1 - before / FLAGS.steps) / (FLAGS.kills - kills + 1)
            time.sleep(chance.uniform(0, 2 * usual * share))
            if process.poll() is None and kills < FLAGS.kills:
                process.kill()
                kills += 1
                process.wait()
                during_save += any("tmp" in p.name for p in (killed / "checkpoints").iterdir())
            elif process.wait():
                raise RuntimeError(f"start {starts} failed with {process.returncode}")
        leaves = _compare(whole, killed)
    results = {
        "kills": kills,
        "kills_that_left_an_unfinished_save": during_save,
        "starts": starts,
        "steps": FLAGS.steps,
        "parameter_arrays_compared": leaves,
        "equal": True,
    }
    record.write(results)
    print(f"{kills} kills over {starts} starts, {during_save} in a save: equal bit for bit")


def _run(verb: str, workdir: Path, bank: Path) -> subprocess.Popen:
    overrides = (
        "data.features=bank", f"data.bank={bank}", "data.images=64",
        f"optim.steps={FLAGS.steps}", "run.checkpoint_every_steps=1", "mesh.data=1",
    )  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "zeroseg_jax", verb, "--config=debug",
         f"--workdir={workdir}",
         *(f"--config.{override}" for override in overrides)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _records(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    # A killed process may leave half a line.
    return [json.loads(line) for line in lines if line.endswith("}")]


def _last_step(workdir: Path) -> int:
    records = _records(workdir)
    return records[-1]["step"] if records else 0


def _compare(whole: Path, killed: Path) -> int:
    one, two = (trees.flatten(load_params(directory)[0]) for directory in (whole, killed))
    for name in one:
        if not np.array_equal(one[name], two[name]):
            raise AssertionError(f"{name} differs")
    first, second = ([(r["step"], r["loss"]) for r in _records(d)] for d in (whole, killed))
    if first != second:
        raise AssertionError("the losses differ")
    return len(one)


if __name__ == "__main__":
    flags.run(main, define_flags)
