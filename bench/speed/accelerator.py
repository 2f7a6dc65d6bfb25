"""All speed measurements of one GPU in nine minutes: training step, teacher, predictor, torch.

    python -m bench.speed.accelerator --carry=.carry --fetch      # with a network, once
    python -m bench.speed.accelerator --carry=.carry              # on the machine with the GPU

The machine needs jax with CUDA, flax, optax, chex, orbax, torch and transformers, and no network;
--fetch puts the few packages that such images lack into a folder (24 MB, Python 3.12 on x86-64).
Compilation takes minutes and the timed calls seconds, so the parts of a wave, each a process of its
own, compile side by side; then each in turn has the device to itself. Waves run in order of value,
and what the overall limit leaves no time for is recorded as skipped. Results are written after each
wave. --tiny runs the same code with small sizes on any device, in minutes on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What images for JAX and PyTorch on GPUs lack; grain needs portpicker.
PACKAGES = (
    "absl-py", "array_record", "attrs", "cloudpickle", "dm-tree", "etils", "flatbuffers", "grain",
    "importlib_resources", "ml_collections", "portpicker", "safetensors", "sentencepiece",
    "threadpoolctl", "wrapt", "zipp",
)  # fmt: skip
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
_LEAST_SECONDS = 15.0
# Share of a wave's time after which those that are compiled no longer wait for the others.
_WAIT_SHARE = 0.75
READY = "ready"  # a process prints this line when it waits for its turn


@dataclasses.dataclass(frozen=True)
class Part:
    """A measurement: function of accelerator_parts.py and its arguments."""

    name: str
    arguments: dict[str, Any]

    @property
    def title(self) -> str:
        """The part as one line."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.arguments.items())])


@dataclasses.dataclass(frozen=True)
class Wave:
    """Parts that compile at the same time, and their limit in seconds; turns go by this order."""

    parts: tuple[Part, ...]
    seconds: float


# The most valuable first: what a cut-off run loses stands last. torch's parts, which hold memory
# while they wait, come before JAX's, which are compiled without being run.
WAVES = (
    Wave((Part("describe", {}),), 60),
    Wave(
        (
            Part("torch_step", {"batch": 256, "form": "compiled"}),
            Part("torch_clip", {"model": "L/14", "batch": 256, "form": "compiled"}),
            Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 256}),
            Part("teacher", {"model": "L/14", "attention": "auto", "batch": 256}),
            Part("train_step", {"variant": "vit_b16", "attention": "xla", "batch": 256}),
            Part("teacher", {"model": "B/16", "attention": "auto", "batch": 256}),
        ),
        300,
    ),
    Wave(
        (
            Part("torch_clip", {"model": "B/16", "batch": 256, "form": "compiled"}),
            Part("torch_groupvit", {"batch": 256, "form": "compiled"}),
            Part("predictor", {}),
            Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 1024}),
            Part("teacher", {"model": "L/14", "attention": "xla", "batch": 256}),
            Part("train_step", {"variant": "vit_l16", "attention": "auto", "batch": 256}),
        ),
        300,
    ),
    Wave(
        (
            Part("torch_step", {"batch": 256, "form": "eager"}),
            Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 512}),
            Part("teacher", {"model": "B/16", "attention": "xla", "batch": 64}),
        ),
        200,
    ),
)  # fmt: skip
# --tiny: one part of each kind.
TINY_WAVES = (
    Wave((Part("describe", {}),), 120),
    Wave(
        (
            Part("torch_step", {"batch": 2, "form": "eager"}),
            Part("torch_clip", {"model": "B/16", "batch": 2, "form": "eager"}),
            Part("torch_groupvit", {"batch": 2, "form": "eager"}),
            Part("train_step", {"variant": "vit_b16", "attention": "xla", "batch": 4}),
            Part("teacher", {"model": "B/16", "attention": "xla", "batch": 2}),
            Part("predictor", {}),
        ),
        900,
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, or fetch the packages that the other machine lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", default="docs/results/accelerator.json", help="JSON file")
    parser.add_argument("--limit", type=float, default=540.0, help="seconds of the whole run")
    parser.add_argument("--carry", default="", help="folder of packages that the machine lacks")
    parser.add_argument("--fetch", action="store_true", help="fill --carry and end")
    parser.add_argument("--tiny", action="store_true", help="small sizes, one part of each kind")
    given = parser.parse_args(arguments)
    if given.fetch:
        fetch_packages(Path(given.carry))
        return 0
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
        "ACCELERATOR_CARRY": str(Path(given.carry).absolute()) if given.carry else "",
        "ACCELERATOR_TINY": "1" if given.tiny else "",
        "ACCELERATOR_TURNS": "1",
        # The processes of a wave share the device's memory.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }

    def run(wave: Wave, seconds: float) -> list[dict[str, Any]]:
        return run_wave(wave.parts, seconds, environment)

    def keep(rows: list[dict[str, Any]]) -> None:
        content = {"command": "python -m bench.speed.accelerator", "limit": given.limit}
        _write(Path(given.output), {**content, "tiny": given.tiny, "parts": rows})

    rows = run_waves(TINY_WAVES if given.tiny else WAVES, given.limit, run, keep)
    return 0 if any("result" in row for row in rows) else 1


def run_waves(
    waves: tuple[Wave, ...],
    limit: float,
    run: Callable[[Wave, float], list[dict[str, Any]]],
    keep: Callable[[list[dict[str, Any]]], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Run waves in order until the time is over.

    Args:
      waves: waves, the most valuable first.
      limit: seconds of the whole run.
      run: function from a wave and its seconds to a row for each part.
      keep: receiver of all rows after each wave.
      clock: seconds that pass.

    Returns:
      A row for each part: "part", and "result", "error" or "skipped".
    """
    begin, rows = clock(), []
    for wave in waves:
        left = limit - (clock() - begin)
        if left < _LEAST_SECONDS:
            reason = f"{left:.0f} of {limit:.0f} seconds were left"
            found = [{"part": part.title, "skipped": reason} for part in wave.parts]
        else:
            found = run(wave, min(wave.seconds, left))
        rows += found
        keep(rows)
        for row in found:
            print(json.dumps(row), flush=True)
    return rows


class _Child:
    """The process of a part: compiling, waiting for its turn, measuring, or ended."""

    def __init__(self, part: Part, environment: dict[str, str]) -> None:
        words = [f"{key}={value}" for key, value in part.arguments.items()]
        self.part, self.lines, self.has_turn, self.alone = part, [""], False, False
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 -- lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.speed.accelerator_parts", part.name, *words],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.strip())

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None and not self.reader.is_alive()

    @property
    def waits(self) -> bool:
        return READY in self.lines and not self.has_turn and not self.ended

    def give_turn(self, alone: bool) -> None:
        self.has_turn, self.alone = True, alone
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, seconds: float) -> dict[str, Any]:
        if not self.ended:
            self.process.kill()
            self.process.wait()
            return {"part": self.part.title, "error": f"longer than {seconds:.0f} seconds"}
        if self.process.returncode or len(self.lines) < 2:
            self.errors.seek(0)
            said = self.errors.read().strip()[-600:]
            return {
                "part": self.part.title, "error": f"exit code {self.process.returncode}: {said}",
            }  # fmt: skip
        result = json.loads(self.lines[-1])
        return {"part": self.part.title, "result": result, "alone": self.alone}


def run_wave(
    parts: tuple[Part, ...], seconds: float, environment: dict[str, str]
) -> list[dict[str, Any]]:
    """Start all parts, wait until they are compiled, and give each its turn.

    Args:
      parts: parts, in the order of their turns.
      seconds: limit of the whole wave; what is not ready after three quarters is not waited for.
      environment: variables of the processes.

    Returns:
      A row for each part: "part", and "result" with "alone" (no other part was compiling when its
      turn began) or "error".
    """
    begin, children = time.monotonic(), [_Child(part, environment) for part in parts]

    def is_over(share: float = 1.0) -> bool:
        return time.monotonic() - begin > share * seconds

    def is_settled() -> bool:
        return all(child.waits or child.ended for child in children)

    while not is_settled() and not is_over(_WAIT_SHARE):
        time.sleep(0.1)
    while not is_over() and not all(child.ended for child in children):
        if child := next((child for child in children if child.waits), None):
            child.give_turn(alone=is_settled())
            while not child.ended and not is_over():
                time.sleep(0.1)
        time.sleep(0.1)
    return [child.end(seconds) for child in children]


def fetch_packages(folder: Path) -> None:
    """Download PACKAGES for Python 3.12 on x86-64 and unpack them into a folder."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--python-version=3.12", *platforms, f"--dest={wheels}", *PACKAGES],
        check=True,
    )  # fmt: skip
    for wheel in sorted(wheels.glob("*.whl")):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(folder)], check=True)
        wheel.unlink()
    wheels.rmdir()
    print(f"{folder}: {sum(p.stat().st_size for p in folder.rglob('*')) / 1e6:.0f} MB")


def _write(path: Path, content: dict[str, Any]) -> None:
    # The package's own writer is not imported: it needs what the machine may lack.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
