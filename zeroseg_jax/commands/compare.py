"""Runs side by side: python -m zeroseg_jax compare REPORT REPORT... --output=DIR.

Each REPORT is a directory that zeroseg evaluate wrote; the first is what the others are
compared with. Pictures need runs made with --save_predictions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags as absl_flags
from absl.flags import FLAGS

if TYPE_CHECKING:
    from zeroseg_jax.evaluation import comparison


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("output", None, "directory of compare.json, .md and .html")
    absl_flags.DEFINE_integer("draws", 2000, "of the bootstrap", lower_bound=100)
    absl_flags.DEFINE_integer("seed", 0, "of the draws")
    absl_flags.DEFINE_integer("pictures", 6, "where the runs differ most", lower_bound=0)
    absl_flags.DEFINE_string("data_dir", "", "of the data set: draws image and truth too")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Compare, write, and print the table."""
    if len(arguments) < 2:
        raise ValueError("compare: give at least two directories of reports.")
    from zeroseg_jax.data import files
    from zeroseg_jax.evaluation import comparison

    runs = [comparison.read_run(argument) for argument in arguments]
    comparison.check_comparable(runs)
    rows = comparison.bootstrap(runs, FLAGS.draws, FLAGS.seed)
    differing = comparison.find_differing(runs, FLAGS.pictures) if FLAGS.pictures else []
    benchmark = _open_benchmark(runs[0])
    panels = [
        (
            f"{runs[0].images[index]}: {100 * share:.1f} % of the pixels differ",
            comparison.draw_differing(runs, index, benchmark),
        )
        for index, share in differing
    ]
    remark = (
        f"Differences are to the first run, in points of mIoU; intervals hold 95 % of "
        f"{FLAGS.draws} draws of the images, the same images for all runs (seed {FLAGS.seed})."
    )
    markdown, page = comparison.write_comparison(runs, rows, panels, remark)
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "runs": [str(run.directory) for run in runs],
        "miou": [run.result["miou"] for run in runs],
        "against_first": rows,
        "draws": FLAGS.draws,
        "seed": FLAGS.seed,
        "differing": [[runs[0].images[i], round(share, 6)] for i, share in differing],
    }
    files.write_json(output / "compare.json", record)
    files.write_text(output / "compare.md", markdown)
    files.write_text(output / "compare.html", page)
    print(markdown.split("\n\n|")[0])
    for run, row in zip(runs, [None, *rows], strict=True):
        more = ""
        if row:
            more = f"  {row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        print(f"{run.directory}: mIoU {run.result['miou']}{more}")
    if FLAGS.pictures and not (runs[0].directory / "predictions").is_dir():
        print("compare: no pictures, since a run was made without --save_predictions")


def _open_benchmark(run: comparison.Run):
    from zeroseg_jax.data.benchmarks import get_benchmark

    result = run.result
    name = result["benchmark"]
    if name.startswith("playground/"):
        return get_benchmark(name, images=result["images"], seed=result["scene_seed"])
    if FLAGS.data_dir:
        return get_benchmark(
            name, images=result["images"], data_dir=FLAGS.data_dir, **result["options"]
        )
    return None
