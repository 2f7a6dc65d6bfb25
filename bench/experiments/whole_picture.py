"""What seeing a wide picture whole is worth, against square windows laid over it.

python -m bench.experiments.whole_picture

The shipped student on tune scenes of the Playground, cut to 4:3, 3:4 and 16:9; all 18 words, with
refinement; mIoU in percent.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.data.files import write_json
from zeroseg_jax.data.playground.scenes import SHAPES, STUFF, TUNE_SEED, build_scene, render
from zeroseg_jax.data.seen_labels import encode_scene
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.inference.predictor import Predictor
from zeroseg_jax.training.metrics import describe_machine

_SIDE_PX = 320
_WORDS = [*SHAPES, *STUFF]
CUTS = {
    "4:3": np.s_[40:280],
    "3:4": np.s_[:, 40:280],
    "16:9": np.s_[70:250],
}


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_integer("images", 60, "scenes", lower_bound=1)
    absl_flags.DEFINE_string("output", "docs/results/whole_picture.json", "raw results")


def score(predictor: Predictor, cut: tuple) -> float:
    """Score a predictor on cut scenes: mIoU in percent."""
    confusion = Confusion(len(_WORDS))
    for index in range(FLAGS.images):
        image, labels = render(build_scene(TUNE_SEED, index), _SIDE_PX)
        truth = encode_scene(labels)
        result = predictor.segment(np.ascontiguousarray(image[cut]), _WORDS)
        confusion.add(truth[cut], result.mask.astype(np.int32))
    return round(100 * confusion.miou(), 2)


def main(arguments: list[str]) -> None:
    """Score both ways on every cut."""
    del arguments
    ways = {
        "whole": Predictor.from_pretrained(),
        "windows": Predictor.from_pretrained(settings={"window_px": "0"}),
    }
    found = {
        name: {way: score(predictor, cut) for way, predictor in ways.items()}
        for name, cut in CUTS.items()
    }
    command = f"python -m bench.experiments.whole_picture --images={FLAGS.images}"
    results = {"command": command, "miou": found, **describe_machine()}
    write_json(Path(FLAGS.output), results)
    print(found)


if __name__ == "__main__":
    flags.run(main, define_flags)
