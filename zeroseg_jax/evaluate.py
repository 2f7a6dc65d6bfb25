"""Score a model: python -m zeroseg_jax.evaluate --workdir=DIR --benchmark=playground/things.

Other models than a student: --model=dense:maskclip, dense:raw or chance, with --teacher=DIR.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax import flags, teacher
from zeroseg_jax.benchmarks import get_benchmark
from zeroseg_jax.evaluation import build, runner
from zeroseg_jax.evaluation.presets import get_preset, parse_overrides


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", "", "a run, an exported student, or 'playground'")
    absl_flags.DEFINE_string("model", "", "dense:maskclip, dense:raw or chance, in place of a run")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the run's own")
    absl_flags.DEFINE_string("benchmark", "playground/things", "one, or several with commas")
    absl_flags.DEFINE_string("preset", "zeroseg", "named protocol")
    absl_flags.DEFINE_string("set", "", "fields of the preset, for example threshold=0.4,topk=3")
    absl_flags.DEFINE_string("output", None, "directory of the report")
    absl_flags.DEFINE_integer("images", 0, "only the first so many; 0: all", lower_bound=0)
    absl_flags.DEFINE_integer("scene_seed", None, "another split of the Playground")
    absl_flags.DEFINE_boolean("save_predictions", False, "write one index PNG an image")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Evaluate on each benchmark; several get a directory each below --output."""
    del arguments
    if bool(FLAGS.workdir) == bool(FLAGS.model):
        raise ValueError("--workdir, --model: give one of the two.")
    names = FLAGS.benchmark.split(",")
    for name in names:
        benchmark = get_benchmark(name, images=FLAGS.images, seed=FLAGS.scene_seed)
        preset = get_preset(FLAGS.preset, name, parse_overrides(FLAGS.set))
        words = [list(synonyms) for synonyms in benchmark.words]
        if FLAGS.workdir:
            student = build.load_student(FLAGS.workdir, FLAGS.teacher)
            segmenter = build.build_student_segmenter(student, words, preset)
            checkpoint = student.checkpoint
        else:
            clip = teacher.load(FLAGS.teacher or "playground")
            segmenter = build.build_baseline(
                FLAGS.model, clip, words, preset, benchmark.has_background
            )
            checkpoint = f"{FLAGS.model} of {FLAGS.teacher or 'playground'}"
        output = Path(FLAGS.output)
        runner.evaluate(
            segmenter,
            benchmark,
            preset,
            checkpoint=checkpoint,
            output=output / name if len(names) > 1 else output,
            save_predictions=FLAGS.save_predictions,
        )


if __name__ == "__main__":
    flags.run(main, define_flags)
