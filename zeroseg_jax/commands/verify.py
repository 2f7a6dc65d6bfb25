"""Verification of a data set on disk: zeroseg verify --benchmark=voc21 --data_dir=DIR.

--convert writes the masks of Pascal Context first. The exit code is 0 for a good data set and 1 for
one with problems.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("benchmark", None, "name of the benchmark; an unknown one lists all")
    absl_flags.DEFINE_string("data_dir", None, "folder of the data set, as its archives unpack")
    absl_flags.DEFINE_boolean(
        "convert", False, "conversion of Pascal Context's annotations to masks, before the check"
    )
    flags.define_label_options()
    absl_flags.DEFINE_string("json", "", "JSON file of all findings; empty: none")
    absl_flags.mark_flags_as_required(["benchmark", "data_dir"])


def main(arguments: list[str]) -> int:
    """Convert and check a data set; return the exit code."""
    if arguments:
        raise ValueError(f"{arguments[0]!r}: not understood; give the data set as --data_dir=DIR.")
    from zeroseg_jax.data import files
    from zeroseg_jax.data.benchmarks import FILES, context, open_files, verify
    from zeroseg_jax.data.benchmarks.listing import LayoutError

    name, data_dir = FLAGS.benchmark, Path(FLAGS.data_dir)
    if FLAGS.convert and FILES.get(name) is not context.build:
        raise ValueError(f"--convert: {name} needs no conversion; leave the flag out.")
    try:
        if FLAGS.convert:
            context.convert(data_dir)
        benchmark = open_files(name, data_dir, ignore=FLAGS.ignore, reduce_zero=FLAGS.reduce_zero)
    except LayoutError as error:
        print(f"problem: {error}\n{name}: not readable in {data_dir}")
        return 1
    findings = verify.check(benchmark)
    for line in verify.render_findings(benchmark, findings):
        print(line)
    if FLAGS.json:
        files.write_json(FLAGS.json, verify.to_record(benchmark, findings))
    wrong = findings.count_problems()
    state = f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else "good"
    print(f"{name}: {state} in {data_dir}")
    return int(bool(wrong))
