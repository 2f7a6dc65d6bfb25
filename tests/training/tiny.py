"""The tiny student that tests of training share."""

import json
import os
import subprocess
import sys
from pathlib import Path

from zeroseg_jax.training.loop import Options

ROOT = Path(__file__).parent.parent.parent

TINY = {
    "model": {
        "image_px": 32,
        "embed_dim": 128,
        "encoder": {"width": 16, "depth": 1, "heads": 2, "patch_px": 8},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "head": {"width": 16, "heads": 2, "stage_depths": (1, 1), "segment_tokens": (4,),
                 "z_hidden": 16},
    },
    "loss": {"cell": 1.0},
    "teacher": {"grids": (1, 2)},
    "optim": {"batch_global": 8, "base_rate": 0.1, "steps": 8},
    "mesh": {"data": 1},
    "run": {"log_every_steps": 1, "checkpoint_every_steps": 2},
}  # fmt: skip


def quiet(line):
    del line


QUIET = Options(log=quiet)


def losses_of(workdir):
    """Return the loss of each logged step; none where nothing was logged yet."""
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def plan(tmp_path, *arguments):
    """Run `zeroseg plan` on the tiny student and return the finished process."""
    recipe = tmp_path / "tiny.py"
    tiny = {**TINY, "mesh": {"data": -1}, "run": {"dtype": "bfloat16"}}
    recipe.write_text(
        "from ml_collections import ConfigDict\nfrom zeroseg_jax.config import *\n\n\n"
        f"def get_config():\n    return ConfigDict(to_mapping(from_mapping({tiny!r})))\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "plan", f"--config={recipe}", *arguments],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
