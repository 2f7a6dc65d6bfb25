"""Train the Playground's CLIP: zeroseg pretrain_clip --output=DIR.

`make playground-clip` runs the four stages of the shipped CLIP, hours on two cores.
"""

from __future__ import annotations

import functools
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", "runs/playground-clip", "directory of the checkpoint")
    absl_flags.DEFINE_integer("steps", 7_000, "steps of the schedule", lower_bound=1)
    absl_flags.DEFINE_string("init", "", "directory of the stage before, to start from its weights")
    absl_flags.DEFINE_integer("stop", 0, "number of steps to run; 0: all", lower_bound=0)
    absl_flags.DEFINE_float(
        "easy_share", 0.3,
        "fraction of the steps over which poses grow from large and upright to any",
    )  # fmt: skip
    absl_flags.DEFINE_integer("stream", 7, "seed of the images, another for each stage")
    absl_flags.DEFINE_float("rate", 1.5e-3, "peak learning rate")
    absl_flags.DEFINE_integer("log_every_steps", 250, "steps between log lines", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Train one stage."""
    del arguments
    from zeroseg_jax.teacher.playground.clip import PretrainOptions, pretrain

    options = PretrainOptions(
        steps=FLAGS.steps,
        stop=FLAGS.stop,
        rate=FLAGS.rate,
        easy_share=FLAGS.easy_share,
        stream=FLAGS.stream,
        log_every_steps=FLAGS.log_every_steps,
        init=Path(FLAGS.init) if FLAGS.init else None,
    )
    pretrain(Path(FLAGS.output), options, functools.partial(print, flush=True))
