"""Kills of commands at random moments: each is run again to its end, like an undisturbed run.

    python -m bench.endurance.kills
    python -m bench.endurance.kills --commands=train,sweep --kills=8

Signals are SIGKILL, SIGTERM and Ctrl-C in turn, at moments drawn evenly over the duration of an
undisturbed run. SIGTERM and Ctrl-C must end with exit code 143 or 130 and without a traceback. The
same command then runs again. What it leaves must equal the undisturbed run: every array, loss, mask
and file, apart from durations.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.data import bank
from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.evaluation.render import render_markdown_table
from zeroseg_jax.training import trees
from zeroseg_jax.training.checkpoint import load_params

ROOT = Path(__file__).parent.parent.parent
# Python itself starts before a handler is set.
_EARLIEST_SECONDS = 0.5
# A process that takes this many times the undisturbed duration hangs.
_HANGS, _HANG_SECONDS = 8, 60.0
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_DURATIONS = {"seconds", "milliseconds", "images_per_second"}
_IMAGES = 1030  # three shards of a bank

_BANK = (
    "--config.data.features=bank", "--config.data.bank=../bank", "--config.data.images=64",
    "--config.mesh.data=1", "--config.run.checkpoint_every_steps=1",
)  # fmt: skip
_DEBUG = ("--config=debug", *_BANK)
_PREPARE = ("prepare", "--config=debug", f"--config.data.images={_IMAGES}", "--workdir=run",
            "--config.data.features=bank")  # fmt: skip
_REGIONS = (
    "prepare", "--config=clip_zss:playground", "--workdir=run", "--config.data.images=520",
    "--config.model.image_px=48", "--config.clip_zss.regions.teacher_px=48",
)  # fmt: skip
# Two seeds. All trainings have as many steps, so that their program compiles once.
_SWEEP = """
from zeroseg_jax.assets.recipes import debug


def get_config():
    config = debug.get_config()
    config.optim.steps = 16
    return config


def sweep():
    for seed in (0, 1):
        yield {"run.seed": seed}
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
      runs: arguments of the processes that run at the same time.
      read: function from the folder of the run to what must be equal, by name.
      kills: number of kills without --kills.
      refused: sentence with which one of the processes may be refused, exit code 2.
    """

    runs: tuple[tuple[str, ...], ...]
    read: Callable[[Path], dict[str, Any]]
    kills: int
    refused: str = ""


def read_bank(folder: Path) -> dict[str, Any]:
    """Return the sums of the shards of run/bank and its regions, which opening compares."""
    found = {}
    for place in ("bank", f"bank/{bank.REGIONS_FOLDER}"):
        directory = folder / "run" / place
        if (directory / "manifest.json").is_file():
            source = bank.BankSource(directory)
            found[place] = [len(source), *source.manifest["sha256"]]
    return found


def read_training(folder: Path) -> dict[str, Any]:
    """Return the loss of each step, and the digest of each array of the last checkpoint."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    params, _, step = load_params(folder)
    arrays = {
        name: hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for name, leaf in trees.flatten(params).items()
    }
    losses = [(entry["step"], entry["loss"]) for entry in map(json.loads, lines)]
    return {"step": step, "losses": losses, **arrays}


def read_sweep(folder: Path) -> dict[str, Any]:
    """Return the trainings and the reports of both points."""
    found = {}
    for point in ("sweep/000", "sweep/001"):
        found[point] = read_training(folder / point)
        found[f"{point}/reports"] = read_files(folder / point / "reports")
    return found


def read_files(folder: Path) -> dict[str, Any]:
    """Return the content of every JSON file without durations, and the digest of other files."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = _drop_durations(json.loads(path.read_bytes()))
        elif path.is_file() and path.suffix not in (".html", ".md"):  # they show durations
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _drop_durations(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _drop_durations(v) for k, v in content.items() if k not in _DURATIONS}
    return [_drop_durations(part) for part in content] if isinstance(content, list) else content


def _of(place: str, read: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    return lambda folder: read(folder / place)


_TRAIN = ("train", *_DEBUG, "--workdir=run", "--config.optim.steps=16")
COMMANDS: dict[str, Command] = {
    "prepare": Command((_PREPARE,), read_bank, 5),
    "prepare with regions": Command((_REGIONS,), read_bank, 4),
    "prepare on two hosts": Command(
        tuple((*_PREPARE, "--host_count=2", f"--host_index={i}") for i in (0, 1)), read_bank, 4
    ),
    "train": Command((_TRAIN,), _of("run", read_training), 6),
    "two trainings in one directory": Command(
        (_TRAIN, _TRAIN), _of("run", read_training), 3, refused="trains there; wait for it"
    ),
    "sweep": Command(
        (("sweep", "--config=../sweep.py", *_BANK, "--workdir=sweep",
          "--evaluate=playground/things", "--evaluate_with=--images=4 --pictures=0"),),
        read_sweep, 4,
    ),
    "evaluate": Command(
        (("evaluate", "--workdir=playground", "--images=60", "--output=report",
          "--save_predictions"),),
        _of("report", read_files), 5,
    ),
    "export": Command(
        (("export", "--model=playground", "--output=student"),), _of("student", read_files), 3
    ),
    "export to stablehlo": Command(
        (("export", "--model=playground", "--format=stablehlo", "--output=exported"),),
        _of("exported", read_files), 3,
    ),
    "segment": Command(
        (("segment", "../images", "--model=playground", "--words=star; heart; grass; sky",
          "--output=segmented"),),
        _of("segmented", read_files), 4,
    ),
}  # fmt: skip


@contextlib.contextmanager
def start_all(
    command: Command, folder: Path
) -> Iterator[Callable[[int], tuple[subprocess.Popen, Path]]]:
    """Yield a function that starts process `i` of a command in a folder; all are ended at last."""
    started: list[subprocess.Popen] = []
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}

    def start(i: int) -> tuple[subprocess.Popen, Path]:
        errors = folder.with_name(f"{folder.name}-errors-{len(started)}")
        with open(errors, "wb") as stream:
            # A group of its own, so that a signal reaches the children of a sweep too.
            process = subprocess.Popen(
                [sys.executable, "-m", "zeroseg_jax", *command.runs[i]], cwd=folder,
                env=environment, stdout=subprocess.DEVNULL, stderr=stream, process_group=0,
            )  # fmt: skip
        started.append(process)
        return process, errors

    try:
        yield start
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Endurance:
    """Runs of a command under signals.

    Args:
      command: the command.
      seconds: duration of an undisturbed run.
      rng: source of moments and victims.
    """

    def __init__(self, command: Command, seconds: float, rng: random.Random):
        self.command, self.seconds, self.rng = command, seconds, rng
        self.landed: collections.Counter[str] = collections.Counter()
        self.starts = 0

    def run(self, folder: Path, kills: int) -> None:
        """Run in a folder until every process has ended with 0; send at most `kills` signals."""
        left = set(range(len(self.command.runs)))
        begin, before = time.monotonic(), self.landed.total()
        with start_all(self.command, folder) as start:
            running: dict[int, tuple[subprocess.Popen, Path]] = {}
            while left:
                for i in left - running.keys():
                    running[i] = start(i)
                    self.starts += 1
                if kills > self.landed.total():
                    self._disturb(running)
                else:
                    self._wait(running, self.seconds * _HANGS + _HANG_SECONDS)
                    if any(process.poll() is None for process, _ in running.values()):
                        raise TimeoutError(f"no end after {self.seconds * _HANGS:.0f} s")
                for i in [i for i in running if running[i][0].poll() is not None]:
                    process, errors = running.pop(i)
                    if self._check_end(process.returncode, errors):
                        left.discard(i)
        if self.landed.total() == before:  # undisturbed, and maybe compiled before
            self.seconds = min(self.seconds, time.monotonic() - begin)

    def _disturb(self, running: dict[int, tuple[subprocess.Popen, Path]]) -> None:
        """Wait until a random moment, and send the next signal to a random process."""
        latest = max(self.seconds, 2 * _EARLIEST_SECONDS)
        self._wait(running, self.rng.uniform(_EARLIEST_SECONDS, latest))
        alive = [i for i, (process, _) in running.items() if process.poll() is None]
        if not alive:
            return
        victim = self.rng.choice(alive)
        process, errors = running.pop(victim)
        number = _SIGNALS[self.landed.total() % len(_SIGNALS)]
        # A kill is that of a whole job; Ctrl-C goes to the group; SIGTERM to the process alone.
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        code = process.wait(timeout=_HANG_SECONDS)
        if code == 0:  # it ended in this moment; whether it is done shows the next start
            return
        self.landed[number.name] += 1
        told = _read_errors(errors)
        wanted = -number if number == signal.SIGKILL else 128 + number
        if code != wanted and not self._is_refusal(code, told):
            raise AssertionError(f"exit code {code} after {number.name}: {told}")

    def _check_end(self, code: int, errors: Path) -> bool:
        """Return whether a process is done; False if it was refused and must start again."""
        told = _read_errors(errors)
        if code and not self._is_refusal(code, told):
            raise AssertionError(f"exit code {code}: {told}")
        return code == 0

    def _is_refusal(self, code: int, told: str) -> bool:
        return code == 2 and bool(self.command.refused) and self.command.refused in told

    def _wait(self, running: dict[int, tuple[subprocess.Popen, Path]], seconds: float) -> None:
        """Wait until every process has ended, or for so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(process.poll() is not None for process, _ in running.values()):
                return
            time.sleep(0.01)


def _read_errors(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    if "Traceback" in text or "Segmentation" in text:
        raise AssertionError(f"a traceback: {text[-2000:]}")
    return text[-500:]


def kill_command(command: Command, root: Path, kills: int) -> dict[str, Any]:
    """Run a command undisturbed and under kills; return counts and whether results are equal.

    Args:
      command: the command.
      root: scratch folder.
      kills: number of kills.

    Raises:
      AssertionError: a traceback, another exit code or another result.
      TimeoutError, subprocess.TimeoutExpired: a process hangs.
    """
    rng = random.Random(0)
    _make_inputs(root, command)
    whole = root / "whole"
    runs = Endurance(command, 120.0, rng)
    runs.run(whole, 0)
    usual, wanted, finished = runs.seconds, command.read(whole), 0
    assert wanted
    while not finished or runs.landed.total() < kills:
        killed = root / f"killed-{finished}"
        runs.run(killed, kills)
        found = command.read(killed)
        for name in wanted.keys() | found.keys():
            if wanted.get(name) != found.get(name):
                raise AssertionError(f"{killed.name}: {name} differs from the undisturbed run")
        finished += 1
    return {
        "kills": runs.landed.total(),
        "signals": dict(sorted(runs.landed.items())),
        "starts": runs.starts,
        "runs": finished,
        "undisturbed_seconds": round(usual, 1),
        "compared": len(wanted),
    }


def _make_inputs(root: Path, command: Command) -> None:
    """Write the bank, the recipe and the images that a command reads."""
    words = [word for arguments in command.runs for word in arguments]
    if _BANK[1] in words:
        made = ("prepare", "--config=debug", *_BANK[:3], "--workdir=.")
        Endurance(Command((made,), read_bank, 0), 120.0, random.Random(0)).run(root / "made", 0)
    (root / "sweep.py").write_text(_SWEEP)
    if "../images" in words:
        from PIL import Image

        (root / "images").mkdir()
        for i in range(24):
            Image.fromarray(render(build_scene(2, i), 200)[0]).save(root / "images" / f"{i}.png")


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_list("commands", list(COMMANDS), "commands to kill; all by default")
    absl_flags.DEFINE_integer("kills", 0, "kills of each; 0: the usual number", lower_bound=0)
    record.define_output("kills")


def main(arguments: list[str]) -> int:
    """Kill the commands and print a table; 1 if a result differs."""
    del arguments
    rows: dict[str, Any] = {}
    # Children of a background job would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends children
    flags.use_compilation_cache()  # programs compile once for all starts
    for name in FLAGS.commands:
        if name not in COMMANDS:
            raise ValueError(f"--commands: {name!r} is none of {', '.join(COMMANDS)}; correct it.")
        with tempfile.TemporaryDirectory() as folder:
            command = COMMANDS[name]
            try:
                rows[name] = kill_command(command, Path(folder), FLAGS.kills or command.kills)
                rows[name]["fault"] = ""
            except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as error:
                rows[name] = {"fault": str(error)}
                print(f"{name}: {error}", file=sys.stderr)
        record.write({"kills": sum(row.get("kills", 0) for row in rows.values()), "rows": rows})
    cells = [[name, row.get("kills", "-"), row.get("starts", "-"), row["fault"][:60] or "equal"]
             for name, row in rows.items()]  # fmt: skip
    print(render_markdown_table(["command", "kills", "starts", "result"], cells))
    return 1 if any(row["fault"] for row in rows.values()) else 0


if __name__ == "__main__":
    flags.run(main, define_flags)
