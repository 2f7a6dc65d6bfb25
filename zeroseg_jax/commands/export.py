"""Export a model: zeroseg export --model=NAME --output=DIR.

--format=safetensors: a directory that `zeroseg segment --model=DIR` reads. A student is
config.json, model.safetensors and a model card. A frozen CLIP is config.json with its pinned name,
by which it is fetched where it is used. With --include_teacher the CLIP's files are copied too, and
nothing is fetched.

--format=stablehlo: one file that jax alone runs on CPU, CUDA and TPU, with embeddings of --words
and an example, run.py. Its outputs are scores, and features or segments. The batch size and the
class names are free. It is verified against the model to 1e-4.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.data.mirrors import is_address, localise
from zeroseg_jax.inference.class_names import parse_classes


def define_flags() -> None:
    """Define the command line."""
    flags.define_model(None)
    absl_flags.DEFINE_string("output", None, "directory to write, or gs://BUCKET/NAME")
    absl_flags.DEFINE_enum("format", "safetensors", ["safetensors", "stablehlo"], "file format")
    absl_flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "dtype of stored tensors")
    absl_flags.DEFINE_boolean("include_teacher", False, "copy the CLIP to OUTPUT/teacher")
    absl_flags.DEFINE_string("words", "star, grass", "class names embedded for stablehlo")
    absl_flags.DEFINE_alias("classes", "words")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Export the newest checkpoint of --model, or a CLIP's read-out."""
    if arguments:
        raise ValueError(f"export: takes no argument {arguments[0]!r}; name a model by --model.")
    flags.use_compilation_cache()
    if FLAGS.format == "stablehlo":
        _export_stablehlo(parse_classes(FLAGS.words, "--words"))
    else:
        _export_safetensors()


def _export_stablehlo(classes: list[list[str]]) -> None:
    from zeroseg_jax.inference import model, stablehlo

    loaded = model.load(FLAGS.model, teacher=FLAGS.teacher, readout=FLAGS.readout)
    record = stablehlo.export_stablehlo(loaded, classes, localise(FLAGS.output))
    print(
        f"export: {FLAGS.output}/{stablehlo.MODEL}, {record['size_mb']} MB for "
        f"{', '.join(record['platforms'])}; differs by {record['largest_difference']:.1e} at most; "
        f"{record['milliseconds']} ms an image here"
    )


def _export_safetensors() -> None:
    from zeroseg_jax.inference import model, model_files
    from zeroseg_jax.training.checkpoint import load_params

    local = FLAGS.model == "playground" or is_address(FLAGS.model)
    directory = model.locate(FLAGS.model).directory if local else Path(FLAGS.model)
    frozen = not directory.is_dir() or model_files.is_clip(directory)
    if FLAGS.readout or frozen or model_files.is_readout_export(directory):
        loaded = model.load(FLAGS.model, teacher=FLAGS.teacher, readout=FLAGS.readout)
        if loaded.located is None:
            raise ValueError(f"--readout: {FLAGS.model} is not a CLIP; leave it out.")
        model_files.write_readout(
            localise(FLAGS.output), loaded.readout, loaded.teacher, loaded.located,
            affinity=loaded.affinity, include_teacher=FLAGS.include_teacher,
        )  # fmt: skip
        print(f"export: {loaded.checkpoint} in {FLAGS.output}")
        return
    # The CLIP is not loaded: a run can be exported on a machine without it.
    params, config, step = load_params(directory)
    teacher = model_files.find_teacher(directory, FLAGS.teacher) or config.teacher.directory
    model_files.write_pretrained(
        params, config, localise(FLAGS.output), model_files.read_facts(directory), step=step,
        teacher=teacher,
        include_teacher=FLAGS.include_teacher, dtype=FLAGS.dtype,
    )  # fmt: skip
    if FLAGS.include_teacher and str(teacher) == "playground":
        print("export: the Playground's CLIP is not copied; it ships with the package")
    print(f"export: step {step} of {FLAGS.model} as {FLAGS.dtype} in {FLAGS.output}")
