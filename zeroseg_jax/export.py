"""Turn a run into a student to ship: python -m zeroseg_jax.export --workdir=DIR --output=OUT."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax import flags
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.exported import export_params


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", None, "directory of the run")
    absl_flags.DEFINE_string("output", None, "directory for config.json and model.safetensors")
    absl_flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "of the stored tensors")
    absl_flags.mark_flags_as_required(["workdir", "output"])


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of --workdir."""
    del arguments
    params, config, step = load_params(FLAGS.workdir)
    manifest = json.loads((Path(FLAGS.workdir) / "manifest.json").read_text())
    # Where the bank and the images lay is of no use elsewhere, and nobody's business.
    data = dataclasses.replace(config.data, bank="", directory="")
    config = dataclasses.replace(config, data=data)
    places = ("data.bank", "data.directory")
    overrides = {k: v for k, v in manifest["overrides"].items() if k not in places}
    metadata = {
        "step": step,
        "teacher": manifest["teacher"],
        "steps": manifest["steps"],
        "overrides": overrides,
    }
    export_params(params, config, FLAGS.output, metadata, dtype=FLAGS.dtype)
    print(f"export: step {step} of {FLAGS.workdir} as {FLAGS.dtype} in {FLAGS.output}")


if __name__ == "__main__":
    flags.run(main, define_flags)
