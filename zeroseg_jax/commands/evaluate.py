"""`zeroseg evaluate --workdir=DIR --benchmark=NAME --output=DIR`: score a model on benchmarks.

Models other than a student: --model=dense:READOUT of the CLIP in --teacher, --model=dense:proxy of
--teacher=A+B (affinities of tower A, CLIP B), --model=chance, and --model=predictions:DIR for the
label maps of another tool.

The same command after an interruption measures the images that are left, from OUTPUT/parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.data.mirrors import local_path

if TYPE_CHECKING:
    from zeroseg_jax.evaluation.baselines import ModelSource
    from zeroseg_jax.evaluation.label_maps import PredictionFolder
    from zeroseg_jax.inference.presets import Preset
    from zeroseg_jax.inference.scoring import ClassVectors
    from zeroseg_jax.inference.segmenters import Segmenter


def define_flags() -> None:
    """Define the flags of `evaluate`."""
    absl_flags.DEFINE_string(
        "workdir", "", "run, exported student, or 'playground' for the shipped student"
    )
    absl_flags.DEFINE_string(
        "model", "", "baseline instead of --workdir: dense:READOUT, chance or predictions:DIR"
    )
    absl_flags.DEFINE_string(
        "teacher", "", "directory or name of the CLIP, or A+B (dense:proxy); empty: the run's"
    )
    absl_flags.DEFINE_string(
        "benchmark", "playground/things", "name of a benchmark, or several with commas"
    )
    absl_flags.DEFINE_string("data_dir", "", "directory of the data set")
    flags.define_label_options()
    absl_flags.DEFINE_string("preset", "zeroseg", "name of the protocol")
    absl_flags.DEFINE_string(
        "set", "", "preset fields to override, for example threshold=0.4,topk=3"
    )
    absl_flags.DEFINE_string("unseen", "", "unseen classes: 'usual', or class names with ';'")
    absl_flags.DEFINE_string("output", None, "directory of the report")
    absl_flags.DEFINE_integer("images", 0, "maximum number of images; 0: all", lower_bound=0)
    absl_flags.DEFINE_integer("scene_seed", None, "random seed of the Playground's scenes")
    absl_flags.DEFINE_integer("batch", 8, "number of windows in flight", lower_bound=1)
    absl_flags.DEFINE_integer(
        "devices", 0, "number of devices; 0: every accelerator, or one CPU", lower_bound=0
    )
    absl_flags.DEFINE_integer(
        "workers", 2, "number of threads that read, label and measure", lower_bound=1
    )
    absl_flags.DEFINE_integer(
        "pictures", 8, "number of panels of the first images; 0: no figures", lower_bound=0
    )
    absl_flags.DEFINE_boolean("save_predictions", False, "write one index PNG per image")
    absl_flags.DEFINE_integer(
        "host_count", 1, "number of processes that share the images and --output", lower_bound=1
    )
    absl_flags.DEFINE_integer(
        "host_index", 0, "index of this process; 0 writes the report", lower_bound=0
    )
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> None:
    """Evaluate on each benchmark; each of several gets a directory below --output."""
    del arguments
    if bool(FLAGS.workdir) == bool(FLAGS.model):
        raise ValueError("--workdir, --model: give exactly one of the two.")
    output = local_path(FLAGS.output, "--output")
    from zeroseg_jax.data.benchmarks import get_benchmark
    from zeroseg_jax.data.benchmarks.splits import find_unseen
    from zeroseg_jax.evaluation import runner
    from zeroseg_jax.evaluation.classes import choose_class_names, find_shared_names
    from zeroseg_jax.evaluation.report_index import write_index
    from zeroseg_jax.inference.presets import get_preset, parse_overrides

    names = FLAGS.benchmark.split(",")
    if not 0 <= FLAGS.host_index < FLAGS.host_count:
        raise ValueError(
            f"--host_index: {FLAGS.host_index} is not below --host_count {FLAGS.host_count}."
        )
    source: ModelSource | None = None
    for name in names:
        benchmark = get_benchmark(
            name,
            data_dir=FLAGS.data_dir,
            images=FLAGS.images,
            seed=FLAGS.scene_seed,
            ignore=FLAGS.ignore,
            reduce_zero=FLAGS.reduce_zero,
        )
        preset = get_preset(FLAGS.preset, name, parse_overrides(FLAGS.set))
        class_names: list[list[str]] | None = None
        if not FLAGS.model.startswith("predictions:"):
            class_names, preset = choose_class_names(preset, benchmark)
            all_names = [*class_names, list(preset.background_words)]
            if shared := find_shared_names(all_names):
                print(f"evaluate: {len(shared)} names occur twice, for example {shared[0]!r}")
        source = source or _open_source()
        model, classes, checkpoint = _build_model(source, class_names, preset)
        runner.evaluate(
            model,
            benchmark,
            preset,
            checkpoint=checkpoint,
            output=output / name if len(names) > 1 else output,
            classes=classes,
            class_names=class_names,
            unseen=find_unseen(FLAGS.unseen, name, benchmark.class_names),
            batch=FLAGS.batch,
            workers=FLAGS.workers,
            save_predictions=FLAGS.save_predictions,
            panels=FLAGS.pictures,
            host_index=FLAGS.host_index,
            host_count=FLAGS.host_count,
        )
    if len(names) > 1 and not FLAGS.host_index:
        write_index(output)
        print(f"evaluate: all reports in {output / 'index.html'}")


def _open_source() -> ModelSource | None:
    """Load the model of the flags; None for the label maps of another tool."""
    if FLAGS.model.startswith("predictions:"):
        return None
    from zeroseg_jax.evaluation.baselines import check_baseline, open_source
    from zeroseg_jax.inference.segmenters import choose_devices

    if FLAGS.model:
        check_baseline(FLAGS.model)
    return open_source(
        FLAGS.workdir or FLAGS.model, teacher=FLAGS.teacher, devices=choose_devices(FLAGS.devices)
    )


def _build_model(
    source: ModelSource | None, class_names: list[list[str]] | None, preset: Preset
) -> tuple[Segmenter | PredictionFolder, ClassVectors | None, str]:
    """Return a model under the preset, its class vectors, and its name for the report."""
    if source is None or class_names is None:
        from zeroseg_jax.evaluation.label_maps import PredictionFolder

        directory = FLAGS.model.removeprefix("predictions:")
        return PredictionFolder(directory), None, f"predictions in {directory}"
    from zeroseg_jax.inference.class_vectors import embed_class_names

    vectors = embed_class_names(source.clip, class_names, preset)
    return source.build(preset), vectors, source.title
