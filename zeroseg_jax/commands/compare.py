"""`zeroseg compare REPORT REPORT... --output=DIR`: reports side by side, with intervals.

Each REPORT is a directory that `zeroseg evaluate` wrote; all are compared with the first. Images
are drawn if every report was made with --save_predictions. --index=DIR lists all reports and
comparisons below DIR in one page, with links.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the flags of `compare`."""
    absl_flags.DEFINE_string("output", "", "directory of compare.json, .md and .html")
    absl_flags.DEFINE_string("index", "", "directory of reports to list in its index.html")
    absl_flags.DEFINE_integer("draws", 2000, "number of bootstrap resamples", lower_bound=100)
    absl_flags.DEFINE_integer("seed", 0, "random seed of the resamples")
    absl_flags.DEFINE_integer(
        "pictures", 6, "number of images to draw, most different first", lower_bound=0
    )
    absl_flags.DEFINE_string("data_dir", "", "directory of the data set, to draw image and truth")


def main(arguments: list[str]) -> None:
    """Compare the reports and print a summary; write the index."""
    from zeroseg_jax.evaluation.comparison import compare
    from zeroseg_jax.evaluation.report_index import write_index

    if arguments and not FLAGS.output or not (FLAGS.output or FLAGS.index):
        raise ValueError("--output: give the directory to write the comparison to.")
    if FLAGS.output:
        summary = compare(
            arguments,
            FLAGS.output,
            draws=FLAGS.draws,
            seed=FLAGS.seed,
            images=FLAGS.pictures,
            data_dir=FLAGS.data_dir,
        )
        print(summary)
    if FLAGS.index:
        count = write_index(FLAGS.index)
        print(f"compare: {count} reports and comparisons in {Path(FLAGS.index) / 'index.html'}")
