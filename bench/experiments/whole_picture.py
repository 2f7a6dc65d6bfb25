"""Wide images in one window against square sliding windows: mIoU on the Playground.

python -m bench.experiments.whole_picture

The shipped student on tune scenes cropped to 4:3, 3:4 and 16:9; all 18 class names, refined;
percent.
"""

from __future__ import annotations

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.data.playground.scenes import (
    SHAPES,
    STUFF,
    TUNE_SEED,
    build_scene,
    encode_scene,
    render,
)
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.inference.predictor import Predictor

_SIDE_PX = 320
_WORDS = [*SHAPES, *STUFF]
CUTS = {
    "4:3": np.s_[40:280],
    "3:4": np.s_[:, 40:280],
    "16:9": np.s_[70:250],
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("images", 60, "number of scenes", lower_bound=1)
    record.define_output("whole_picture")


def score(predictor: Predictor, cut: tuple) -> float:
    """Return the mIoU of a predictor on cropped scenes, in percent."""
    confusion = Confusion(len(_WORDS))
    for index in range(FLAGS.images):
        image, labels = render(build_scene(TUNE_SEED, index), _SIDE_PX)
        truth = encode_scene(labels)
        result = predictor.segment(np.ascontiguousarray(image[cut]), _WORDS)
        confusion.add(truth[cut], result.mask.astype(np.int32))
    return round(100 * confusion.miou(), 2)


def main(arguments: list[str]) -> None:
    """Score both layouts of windows on every crop."""
    del arguments
    ways = {
        "whole": Predictor.from_pretrained("playground"),
        "windows": Predictor.from_pretrained("playground", settings={"window": "sliding"}),
    }
    found = {
        name: {way: score(predictor, cut) for way, predictor in ways.items()}
        for name, cut in CUTS.items()
    }
    record.write({"miou": found})
    print(found)


if __name__ == "__main__":
    flags.run(main, define_flags)
