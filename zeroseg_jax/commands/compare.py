"""`zeroseg compare REPORT REPORT... --output=DIR`: reports side by side, with intervals.

Each REPORT is a directory that `zeroseg evaluate` wrote; all are compared with the first. Images
are drawn if every report was made with --save_predictions.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the flags of `compare`."""
    absl_flags.DEFINE_string("output", None, "directory of compare.json, .md and .html")
    absl_flags.DEFINE_integer("draws", 2000, "number of bootstrap resamples", lower_bound=100)
    absl_flags.DEFINE_integer("seed", 0, "random seed of the resamples")
    absl_flags.DEFINE_integer(
        "pictures", 6, "number of images to draw, most different first", lower_bound=0
    )
    absl_flags.DEFINE_string("data_dir", "", "directory of the data set, to draw image and truth")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Compare the reports and print a summary."""
    from zeroseg_jax.evaluation.comparison import compare

    summary = compare(
        arguments,
        FLAGS.output,
        draws=FLAGS.draws,
        seed=FLAGS.seed,
        images=FLAGS.pictures,
        data_dir=FLAGS.data_dir,
    )
    print(summary)
