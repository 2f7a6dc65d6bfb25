"""Write a student for others: zeroseg export --workdir=DIR --output=OUT.

--format=safetensors: config.json, model.safetensors and a model card; with --include_teacher the
CLIP too, so that the directory is all that `zeroseg segment --workdir=OUT` needs.
--format=stablehlo: one file that jax alone runs on CPU, CUDA and TPU, for any batch and any
words, verified against the model to 1e-4, with embeddings of --classes and an example, run.py.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.inference.class_names import parse_classes


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", None, "a run, an exported student, or 'playground'")
    absl_flags.DEFINE_string("output", None, "directory to write")
    absl_flags.DEFINE_enum("format", "safetensors", ["safetensors", "stablehlo"], "what to write")
    absl_flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "of stored tensors")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the run's own")
    absl_flags.DEFINE_boolean("include_teacher", False, "copy the CLIP to OUTPUT/teacher")
    absl_flags.DEFINE_string("classes", "star; grass", "words that go along with stablehlo")
    absl_flags.mark_flags_as_required(["workdir", "output"])


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of --workdir."""
    if arguments:
        raise ValueError(f"export: takes no {arguments[0]!r}; name a run by --workdir=DIR.")
    if FLAGS.format == "stablehlo":
        _export_stablehlo(parse_classes(FLAGS.classes))
    else:
        _export_safetensors()


def _export_stablehlo(words: list[list[str]]) -> None:
    from zeroseg_jax.inference import model as build
    from zeroseg_jax.inference import model_files as pretrained
    from zeroseg_jax.inference import stablehlo

    student = build.load_student(
        FLAGS.workdir, pretrained.find_teacher(FLAGS.workdir, FLAGS.teacher)
    )
    record = stablehlo.export_stablehlo(student, words, FLAGS.output)
    print(
        f"export: {FLAGS.output}/{stablehlo.MODEL}, {record['size_mb']} MB for "
        f"{', '.join(record['platforms'])}; differs by {record['largest_difference']:.1e} at most; "
        f"{record['milliseconds']} ms a picture here"
    )


def _export_safetensors() -> None:
    from zeroseg_jax.inference import model as build
    from zeroseg_jax.inference import model_files as pretrained
    from zeroseg_jax.training.checkpoint import load_params

    shipped = FLAGS.workdir == "playground"
    directory = build.SHIPPED_STUDENT if shipped else FLAGS.workdir
    params, config, step = load_params(directory)
    teacher = pretrained.find_teacher(directory, FLAGS.teacher) or config.teacher.directory
    pretrained.write_pretrained(
        params, config, FLAGS.output, pretrained.read_facts(directory), step=step,
        teacher=teacher, include_teacher=FLAGS.include_teacher, dtype=FLAGS.dtype,
    )  # fmt: skip
    print(f"export: step {step} of {FLAGS.workdir} as {FLAGS.dtype} in {FLAGS.output}")
