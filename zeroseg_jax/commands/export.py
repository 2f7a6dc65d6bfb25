"""Export a model: zeroseg export --workdir=DIR --output=OUT.

--format=safetensors: config.json, model.safetensors and a model card of a student; with
--include_teacher the CLIP too, so that `zeroseg segment --workdir=OUT` needs nothing else.
--format=stablehlo: one file of a student or a CLIP's read-out that jax alone runs on CPU, CUDA and
TPU, with embeddings of --classes and an example, run.py. The batch size and the class names are
free. It is verified against the model to 1e-4.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.inference.class_names import parse_classes


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", None, "run, exported student, CLIP, or 'playground'")
    absl_flags.DEFINE_alias("model", "workdir")
    absl_flags.DEFINE_string("output", None, "directory to write")
    absl_flags.DEFINE_enum("format", "safetensors", ["safetensors", "stablehlo"], "file format")
    absl_flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "dtype of stored tensors")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the one of the run")
    absl_flags.DEFINE_string("readout", "", "dense read-out of a CLIP; empty: its family's default")
    absl_flags.DEFINE_boolean("include_teacher", False, "copy the CLIP to OUTPUT/teacher")
    absl_flags.DEFINE_string("classes", "star; grass", "class names embedded for stablehlo")
    absl_flags.mark_flags_as_required(["workdir", "output"])


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of --workdir, or a CLIP's read-out."""
    if arguments:
        raise ValueError(f"export: takes no argument {arguments[0]!r}; name a run by --workdir.")
    if FLAGS.format == "stablehlo":
        _export_stablehlo(parse_classes(FLAGS.classes))
    else:
        _export_safetensors()


def _export_stablehlo(classes: list[list[str]]) -> None:
    from zeroseg_jax.inference import model, stablehlo

    loaded = model.load(FLAGS.workdir, teacher=FLAGS.teacher, readout=FLAGS.readout)
    record = stablehlo.export_stablehlo(loaded, classes, FLAGS.output)
    print(
        f"export: {FLAGS.output}/{stablehlo.MODEL}, {record['size_mb']} MB for "
        f"{', '.join(record['platforms'])}; differs by {record['largest_difference']:.1e} at most; "
        f"{record['milliseconds']} ms an image here"
    )


def _export_safetensors() -> None:
    from zeroseg_jax.inference import model
    from zeroseg_jax.inference.model_files import write_pretrained
    from zeroseg_jax.training.checkpoint import load_params

    # The CLIP is not loaded: a run can be exported on a machine without it.
    directory = model.SHIPPED_STUDENT if FLAGS.workdir == "playground" else FLAGS.workdir
    if FLAGS.readout or model.is_clip(directory):
        raise ValueError(
            f"--workdir: {directory} is a frozen CLIP, already in safetensors; "
            "give a student or --format=stablehlo."
        )
    params, config, step = load_params(directory)
    teacher = model.find_teacher(directory, FLAGS.teacher) or config.teacher.directory
    write_pretrained(
        params, config, FLAGS.output, model.read_facts(directory), step=step,
        teacher=teacher, include_teacher=FLAGS.include_teacher, dtype=FLAGS.dtype,
    )  # fmt: skip
    print(f"export: step {step} of {FLAGS.workdir} as {FLAGS.dtype} in {FLAGS.output}")
