"""Training on real photographs: reconstruction, segments, losses and speed, without semantics.

    python -m bench.experiments.photographs --directory=FOLDER

FOLDER is any folder of photographs. Numbers and a plot of the losses are written to docs/, drawings
only to the work directory: each row is a photograph, its visible patches, the reconstruction and
the segments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import files
from zeroseg_jax.data.bank import BankSource
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.previews import build_previews

_SCALE = 3


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("directory", None, "folder of photographs")
    absl_flags.DEFINE_string(
        "workdir", "runs/photographs", "directory of bank, run and pictures.png"
    )
    absl_flags.DEFINE_integer("steps", 300, "training steps of 32 photographs", lower_bound=1)
    record.define_output("photographs")
    absl_flags.DEFINE_string("plot", "docs/images/photographs-losses.png", "plot of the losses")
    absl_flags.DEFINE_boolean("plot_only", False, "draw the recorded losses of --output again")


def main(arguments: list[str]) -> None:
    """Prepare, train, record and draw."""
    del arguments
    if FLAGS.plot_only:
        plot(record.read_earlier()["curve"])
        return
    if FLAGS.directory is None:
        raise ValueError("--directory: give a folder of photographs.")
    seconds = {command: run(command) for command in ("prepare", "train")}
    lines = (Path(FLAGS.workdir) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    names = [name for name in records[0] if name.startswith("loss")]
    kept = ("step", *names, "segments_used", "distinct_matches", "images_per_second")
    curve = [{name: record[name] for name in kept} for record in records]
    bank = BankSource(Path(FLAGS.workdir) / "bank")
    results = {
        "photographs": len(bank),
        "seconds": seconds,
        "images_per_second": float(np.median([r["images_per_second"] for r in records[1:]])),
        "first": curve[0],
        "last": curve[-1],
        "curve": curve,
    }
    record.write(results)
    plot(curve)
    paint(bank)
    print({"first": curve[0], "last": curve[-1], "seconds": seconds})


def run(command: str) -> float:
    """Run a command of the package on the photographs; return its seconds."""
    begin = time.time()
    line = [
        sys.executable, "-m", "zeroseg_jax", command, "--config=photos:small",
        f"--workdir={FLAGS.workdir}", f"--config.data.directory={FLAGS.directory}",
    ]  # fmt: skip
    if command == "train":
        line += [f"--config.optim.steps={FLAGS.steps}", "--config.run.log_every_steps=10"]
    subprocess.run(line, check=True)
    return round(time.time() - begin, 1)


def plot(curve: list[dict]) -> None:
    """Draw every loss over the steps, each against its first value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    steps = [record["step"] for record in curve]
    for name in (name for name in curve[0] if name.startswith("loss")):
        first = curve[0][name]
        axes.plot(steps, [record[name] / first for record in curve], label=name)
    axes.set(xlabel="step", ylabel="loss / its first value")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(FLAGS.plot, format="png", dpi=220)


def paint(bank: BankSource) -> None:
    """Write pictures.png: visible patches, reconstruction and segments of a few photographs."""
    params = load_params(FLAGS.workdir)[0]
    manifest = json.loads((Path(FLAGS.workdir) / "manifest.json").read_text())
    rows = build_previews(from_mapping(manifest["config"]), bank)(params)
    sheet = Image.fromarray(np.concatenate(list(rows.values())))
    size = (sheet.width * _SCALE, sheet.height * _SCALE)
    files.write_png(
        Path(FLAGS.workdir) / "pictures.png", sheet.resize(size, Image.Resampling.BICUBIC)
    )


if __name__ == "__main__":
    flags.run(main, define_flags)
