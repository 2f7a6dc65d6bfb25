"""`zeroseg robustness --workdir=DIR --benchmark=NAME --output=DIR`: scores under other class names.

The same images are scored with other synonyms, plurals, reversed words, shuffled classes, more
classes (distractors from ImageNet) and with the classes of each image alone. The report has the
spread of mIoU over names of the same classes, and the worst case.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the flags of `robustness`."""
    absl_flags.DEFINE_string("workdir", "", "run, exported student, or 'playground'")
    absl_flags.DEFINE_string("model", "", "baseline instead of --workdir: dense:READOUT")
    absl_flags.DEFINE_string("teacher", "", "directory or name of the CLIP; empty: the run's")
    absl_flags.DEFINE_string("benchmark", "playground/full", "name of the benchmark")
    absl_flags.DEFINE_string("data_dir", "", "directory of the data set")
    absl_flags.DEFINE_string("preset", "zeroseg", "name of the protocol")
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example threshold=0.4")
    absl_flags.DEFINE_list("distractors", ["50", "200"], "numbers of added classes")
    absl_flags.DEFINE_integer("seed", 0, "random seed of distractors and of the classes' order")
    absl_flags.DEFINE_integer("images", 0, "maximum number of images; 0: all", lower_bound=0)
    absl_flags.DEFINE_integer("batch", 8, "number of windows in flight", lower_bound=1)
    absl_flags.DEFINE_integer(
        "devices", 0, "number of devices; 0: every accelerator, or one CPU", lower_bound=0
    )
    absl_flags.DEFINE_string("output", None, "directory of robustness.json, .md and .html")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Score the benchmark under every variant of its class names."""
    del arguments
    if bool(FLAGS.workdir) == bool(FLAGS.model):
        raise ValueError("--workdir, --model: give exactly one of the two.")
    if wrong := [text for text in FLAGS.distractors if not text.isdigit() or text == "0"]:
        raise ValueError(f"--distractors: {wrong[0]!r} is no number of classes; give 50,200.")
    from zeroseg_jax.data.benchmarks import get_benchmark
    from zeroseg_jax.evaluation.baselines import check_baseline, open_source
    from zeroseg_jax.evaluation.classes import choose_class_names
    from zeroseg_jax.evaluation.name_variants import list_variants
    from zeroseg_jax.evaluation.robustness import measure_robustness
    from zeroseg_jax.inference.class_vectors import embed_class_names
    from zeroseg_jax.inference.presets import get_preset, parse_overrides
    from zeroseg_jax.inference.segmenters import choose_devices

    if FLAGS.model:
        check_baseline(FLAGS.model)
    benchmark = get_benchmark(FLAGS.benchmark, data_dir=FLAGS.data_dir, images=FLAGS.images)
    preset = get_preset(FLAGS.preset, FLAGS.benchmark, parse_overrides(FLAGS.set))
    names, preset = choose_class_names(preset, benchmark)
    source = open_source(
        FLAGS.workdir or FLAGS.model, teacher=FLAGS.teacher, devices=choose_devices(FLAGS.devices)
    )
    measure_robustness(
        source.build(preset),
        benchmark,
        preset,
        list_variants(
            names, benchmark.name, more=[int(n) for n in FLAGS.distractors], seed=FLAGS.seed
        ),
        lambda variant: embed_class_names(source.clip, variant, preset),
        checkpoint=source.title,
        output=Path(FLAGS.output),
        batch=FLAGS.batch,
    )
