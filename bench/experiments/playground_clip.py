"""Zero-shot accuracy of the shipped CLIP on crops of things in unseen scenes.

python -m bench.experiments.playground_clip
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.teacher.checkpoints.config import read_config
from zeroseg_jax.teacher.checkpoints.tensors import read_params
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.playground.zero_shot import measure_accuracy
from zeroseg_jax.teacher.tokenizer import load_tokenizer

WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


def define_flags() -> None:
    """Define the flags."""
    record.define_output("playground_clip")
    absl_flags.DEFINE_integer("count", 4800, "number of crops")


def main(arguments: list[str]) -> None:
    """Classify shape, colour and stuff of every crop."""
    del arguments
    directory = Path(load_teacher("playground").directory)
    config = read_config(directory)
    encode = load_tokenizer(directory, config)
    params = read_params(directory, config)
    scores, held_out = (
        measure_accuracy(params, config, encode, count=FLAGS.count, held_out=which)
        for which in (False, True)
    )
    # Width of the view in diameters of the thing at its centre.
    by_width = {
        str(width): [
            measure_accuracy(
                params, config, encode, count=FLAGS.count // 4, held_out=which, width=width
            )["shape"]
            for which in (False, True)
        ]
        for width in WIDTHS
    }
    training = json.loads((directory / "pretrain.json").read_text())
    images = 0
    stage = training
    while stage:
        images += stage["log"][-1]["images"]
        stage = stage["earlier"]
    results = {
        "crops": FLAGS.count,
        "accuracy": scores,
        "accuracy_held_out": held_out,
        "shape_accuracy_by_width": by_width,
        "captions_trained_on": images,
    }
    record.write(results)
    print(json.dumps({"ordinary": scores, "held out": held_out}), f"after {images} captions")


if __name__ == "__main__":
    flags.run(main, define_flags)
