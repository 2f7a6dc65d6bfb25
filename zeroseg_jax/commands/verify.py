"""Check a data set: python -m zeroseg_jax verify --benchmark=voc21 --data_dir=DIR.

--archive=FILE unpacks a published archive into DIR first, --convert writes the masks of Pascal
Context. The exit code is 0 where all is good, 1 where something is wrong with the data.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.data import files
from zeroseg_jax.data.benchmarks import FILES, archives, context, open_files
from zeroseg_jax.data.benchmarks import verify as check
from zeroseg_jax.data.benchmarks.folder import IGNORE
from zeroseg_jax.data.benchmarks.listing import LayoutError


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("benchmark", None, f"one of {', '.join(FILES)}")
    absl_flags.DEFINE_string("data_dir", None, "where the data set lies, or is to lie")
    absl_flags.DEFINE_list("archive", [], "archives to unpack into --data_dir first")
    absl_flags.DEFINE_boolean("convert", False, "write Pascal Context's masks first")
    absl_flags.DEFINE_integer("ignore", IGNORE, "of folder: label of ignored pixels; -1: none")
    absl_flags.DEFINE_boolean("reduce_zero", False, "of folder: label 0 is ignored, 1 is class 0")
    absl_flags.DEFINE_string("json", "", "file that all findings are written to")
    absl_flags.DEFINE_float("max_gb", 0, "limit of an archive; 0: the data set's", lower_bound=0)
    absl_flags.DEFINE_integer("max_files", 0, "likewise, of its files", lower_bound=0)
    absl_flags.mark_flags_as_required(["benchmark", "data_dir"])


def main(arguments: list[str]) -> int:
    """Unpack, convert and check; return the exit code."""
    if arguments:
        raise ValueError(f"{arguments[0]!r}: not understood; the data set is --data_dir=DIR.")
    name, data_dir = FLAGS.benchmark, Path(FLAGS.data_dir)
    if FLAGS.convert and FILES.get(name) is not context.build:
        raise ValueError(f"--convert: {name} is read as its archives unpack; leave the flag out.")
    if FLAGS.archive:
        _unpack(name, data_dir)
    try:
        if FLAGS.convert:
            context.convert(data_dir)
        benchmark = open_files(name, data_dir, ignore=FLAGS.ignore, reduce_zero=FLAGS.reduce_zero)
    except LayoutError as error:
        print(f"problem: {error}\n{name}: not readable in {data_dir}")
        return 1
    findings = check.check(benchmark)
    for line in check.describe(benchmark, findings):
        print(line)
    if FLAGS.json:
        files.write_json(FLAGS.json, check.summarise(benchmark, findings))
    wrong = findings.count_problems()
    state = f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else "good"
    print(f"{name}: {state} in {data_dir}")
    return int(bool(wrong))


def _unpack(name: str, data_dir: Path) -> None:
    if name not in archives.LIMITS:
        open_files(name, data_dir)  # says what is wrong with the name
    usual = archives.LIMITS[name]
    limits = archives.Limits(FLAGS.max_gb or usual.gigabytes, FLAGS.max_files or usual.files)
    for archive in FLAGS.archive:
        archives.unpack(Path(archive), data_dir, limits)
