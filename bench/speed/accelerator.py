"""All speed measurements of one GPU in nine minutes: training step, teacher, predictor, torch.

    python -m bench.speed.accelerator --carry=.carry --fetch      # with a network, once
    python -m bench.speed.accelerator --carry=.carry              # on the machine with the GPU

The machine needs jax with CUDA, flax, optax, chex, orbax, torch and transformers, and no network;
--fetch puts the few packages that such images lack into a folder (24 MB, Python 3.12 on x86-64).
Each part is a process of its own with its own limit. Parts run in order of value, and those that
the overall limit leaves no time for are recorded as skipped. Results are written after each part.
--tiny runs the same code with small sizes on any device, in minutes on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
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


@dataclasses.dataclass(frozen=True)
class Part:
    """A measurement: function of accelerator_parts.py, its arguments, and its limit in seconds."""

    name: str
    arguments: dict[str, Any]
    seconds: float

    @property
    def title(self) -> str:
        """The part as one line."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.arguments.items())])


# The most valuable first: what a cut-off run loses stands last.
PARTS = (
    Part("describe", {}, 40),
    Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 256}, 100),
    Part("teacher", {"model": "L/14", "attention": "auto", "batch": 256}, 60),
    Part("torch_clip", {"model": "L/14", "batch": 256}, 60),
    Part("train_step", {"variant": "vit_b16", "attention": "xla", "batch": 256}, 100),
    Part("torch_step", {"batch": 256}, 90),
    Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 1024}, 100),
    Part("teacher", {"model": "B/16", "attention": "auto", "batch": 256}, 50),
    Part("teacher", {"model": "L/14", "attention": "xla", "batch": 256}, 60),
    Part("predictor", {}, 90),
    Part("train_step", {"variant": "vit_l16", "attention": "auto", "batch": 256}, 120),
    Part("torch_groupvit", {"batch": 256}, 60),
    Part("torch_clip", {"model": "B/16", "batch": 256}, 50),
    Part("train_step", {"variant": "vit_b16", "attention": "auto", "batch": 512}, 100),
    Part("teacher", {"model": "B/16", "attention": "xla", "batch": 64}, 50),
)
# --tiny: one part of each kind.
TINY_PARTS = (
    Part("describe", {}, 120),
    Part("train_step", {"variant": "vit_b16", "attention": "xla", "batch": 4}, 300),
    Part("teacher", {"model": "B/16", "attention": "xla", "batch": 2}, 120),
    Part("predictor", {}, 300),
    Part("torch_clip", {"model": "B/16", "batch": 2}, 120),
    Part("torch_step", {"batch": 2}, 120),
    Part("torch_groupvit", {"batch": 2}, 120),
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
        "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9"),
    }

    def run(part: Part, seconds: float) -> dict[str, Any]:
        return run_process(part, seconds, environment)

    def keep(rows: list[dict[str, Any]]) -> None:
        content = {"command": "python -m bench.speed.accelerator", "limit": given.limit}
        _write(Path(given.output), {**content, "tiny": given.tiny, "parts": rows})

    rows = run_parts(TINY_PARTS if given.tiny else PARTS, given.limit, run, keep)
    return 0 if any("result" in row for row in rows) else 1


def run_parts(
    parts: tuple[Part, ...],
    limit: float,
    run: Callable[[Part, float], dict[str, Any]],
    keep: Callable[[list[dict[str, Any]]], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Run parts in order until the time is over.

    Args:
      parts: parts, the most valuable first.
      limit: seconds of the whole run.
      run: function from a part and its seconds to "result" or "error".
      keep: receiver of all rows after each part.
      clock: seconds that pass.

    Returns:
      A row for each part: "part", and "result", "error" or "skipped".
    """
    begin, rows = clock(), []
    for part in parts:
        left = limit - (clock() - begin)
        row: dict[str, Any] = {"part": part.title}
        if left < _LEAST_SECONDS:
            row["skipped"] = f"{left:.0f} of {limit:.0f} seconds were left"
        else:
            started = clock()
            row |= run(part, min(part.seconds, left))
            row["seconds"] = round(clock() - started, 1)
        rows.append(row)
        keep(rows)
        print(json.dumps(row), flush=True)
    return rows


def run_process(part: Part, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part as a process: {"result": the JSON of its last line} or {"error": why not}."""
    words = [f"{key}={value}" for key, value in part.arguments.items()]
    command = [sys.executable, "-m", "bench.speed.accelerator_parts", part.name, *words]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"longer than {seconds:.0f} seconds"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": f"exit code {done.returncode}: {done.stderr.strip()[-600:]}"}
    return {"result": json.loads(lines[-1])}


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
