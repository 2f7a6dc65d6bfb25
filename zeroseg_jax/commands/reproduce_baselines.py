"""`zeroseg reproduce-baselines --data_dir=DIR --output=DIR`: published beside measured scores.

Every published cell (model, read-out, benchmark) whose data are in --data_dir is evaluated into
OUTPUT/ROW/BENCHMARK; table.json, table.md and table.html have all cells with differences. The same
command continues after an interruption. Without --output it lists what each cell needs and about
how long it takes.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the flags of `reproduce-baselines`."""
    absl_flags.DEFINE_string("data_dir", "", "directory of the data sets; empty: none")
    absl_flags.DEFINE_string("output", "", "directory of reports and table; empty: list only")
    absl_flags.DEFINE_list("rows", [], "keys of published rows; empty: all; an unknown one lists")
    absl_flags.DEFINE_list("benchmarks", [], "names of benchmarks; empty: all")
    absl_flags.DEFINE_string(
        "clip", "", "directory or name of a CLIP for every row; empty: that of the row"
    )
    absl_flags.DEFINE_string("set", "", "preset fields to override in every cell")
    absl_flags.DEFINE_integer("images", 0, "maximum number of images; 0: all", lower_bound=0)
    absl_flags.DEFINE_integer("batch", 8, "number of windows in flight", lower_bound=1)
    absl_flags.DEFINE_integer(
        "devices", 0, "number of devices; 0: every accelerator, or one CPU", lower_bound=0
    )


def main(arguments: list[str]) -> int:
    """List or measure the cells; 1 if a cell could not be measured for want of data."""
    del arguments
    from zeroseg_jax.config import suggest
    from zeroseg_jax.evaluation import reproduction
    from zeroseg_jax.evaluation.baselines import ModelSource, open_source
    from zeroseg_jax.evaluation.published_scores import ROWS
    from zeroseg_jax.inference.presets import parse_overrides
    from zeroseg_jax.inference.segmenters import choose_devices

    for key in FLAGS.rows:
        if key not in ROWS:
            raise ValueError(f"--rows: {key!r} is not known; {suggest(key, ROWS)}")
    cells = reproduction.list_cells(
        FLAGS.data_dir, FLAGS.rows or list(ROWS), FLAGS.benchmarks, parse_overrides(FLAGS.set)
    )
    if not cells:
        raise ValueError(f"--benchmarks: no published score on {', '.join(FLAGS.benchmarks)}.")
    if not FLAGS.output:
        print("\n".join(reproduction.render_plan(cells)))
        return 0
    measured = {}
    sources: dict[tuple[str, str], ModelSource] = {}
    output = Path(FLAGS.output)
    for cell in cells:
        if cell.missing:
            print(f"reproduce: {cell.row.title} on {cell.benchmark}: {cell.missing}")
            continue
        name = (f"dense:{cell.row.readout}", FLAGS.clip or cell.row.model)
        if name not in sources:
            sources.clear()  # one model in memory
            sources[name] = open_source(
                name[0], teacher=name[1], devices=choose_devices(FLAGS.devices)
            )
        measured[cell.key, cell.benchmark] = reproduction.measure_cell(
            cell, sources[name], output, data_dir=FLAGS.data_dir, images=FLAGS.images,
            batch=FLAGS.batch,
        )  # fmt: skip
        reproduction.write_table(cells, measured, output)
    reproduction.write_table(cells, measured, output)
    print(f"reproduce: {len(measured)} of {len(cells)} cells in {output / 'table.html'}")
    return int(len(measured) < len(cells))
