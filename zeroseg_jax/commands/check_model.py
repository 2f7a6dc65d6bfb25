"""Check of a public model on this machine: zeroseg check-model clip-b16 --data_dir=VOC.

It checks the weights against the recorded checksums, loads every tensor, and compares the tokens
and embeddings of six texts with recorded ones. "unrecorded" marks what has no record. With
--data_dir it scores the model under its published protocol and prints the published score beside
the measured one. Exit code 0: good; 1: a check failed, or a score differs by more than 1.0 mIoU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.teacher.aliases import ALIASES, DEFAULT

if TYPE_CHECKING:
    from zeroseg_jax.inference.model import Model
    from zeroseg_jax.teacher.model_names import Located

MOST_DIFFERENCE = 1.0  # mIoU in percent
_VERDICTS = {True: "good", False: "FAILED", None: "unrecorded"}


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("data_dir", "", "directory of the data set; empty: no score")
    absl_flags.DEFINE_string("benchmark", "voc21", "name of the benchmark")
    absl_flags.DEFINE_integer("images", 0, "maximum number of images; 0: all", lower_bound=0)
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example short_side_px=224")
    absl_flags.DEFINE_string("output", "check", "directory of the report, with --data_dir")
    absl_flags.DEFINE_string("json", "", "JSON file of tokens and embeddings; empty: none")


def main(arguments: list[str]) -> int:
    """Run the checks; return the exit code."""
    if len(arguments) != 1:
        raise ValueError("check-model: give one name, for example clip-b16.")
    if arguments[0] == "playground":
        raise ValueError(
            "check-model: playground ships with the package; name a public model, or the folder "
            "of a CLIP."
        )
    from zeroseg_jax.data.files import read_json, write_json
    from zeroseg_jax.inference import model as models
    from zeroseg_jax.teacher import model_names, self_check

    flags.use_compilation_cache()
    name = arguments[0]
    located = model_names.resolve(name, field="check-model")
    rows = [("checksums", *self_check.check_sums(part)) for part in _list_parts(located)]
    model = models.load(name)
    rows.append(("tensors", True, f"all read, read-out {model.readout}"))
    records = read_json(self_check.RECORDS)
    record = records["models"].get(name.rpartition("+")[2], {})
    found = self_check.measure(model.teacher, records["texts"])
    rows += [("tokens", *self_check.check_tokens(found, record)),
             ("embeddings", *self_check.check_cosines(found, record))]  # fmt: skip
    if FLAGS.json:
        write_json(FLAGS.json, found)
    if FLAGS.data_dir:
        rows.append((FLAGS.benchmark, *score(model, located)))
    print(f"check-model: {name}, {located.pinned or located.directory}")
    for title, good, text in rows:
        print(f"  {title:10}  {_VERDICTS[good]:10}  {text}".rstrip())
    failed = sum(good is False for _, good, _ in rows)
    return int(bool(failed))


def _list_parts(located: Located) -> list[Located]:
    return [located, located.affinity] if located.affinity else [located]


def score(model: Model, located: Located) -> tuple[bool | None, str]:
    """Evaluate under the published preset.

    Returns:
      True, False, or None where no score is published; and one remark.
    """
    from zeroseg_jax.data.benchmarks import get_benchmark
    from zeroseg_jax.evaluation import runner
    from zeroseg_jax.evaluation.classes import choose_class_names
    from zeroseg_jax.inference.class_vectors import embed_class_names
    from zeroseg_jax.inference.presets import get_preset, parse_overrides
    from zeroseg_jax.inference.segmenters import ModelSegmenter, choose_devices

    source = located.affinity or located
    name = source.alias.preset if source.alias else model.readout
    benchmark = get_benchmark(FLAGS.benchmark, data_dir=FLAGS.data_dir, images=FLAGS.images)
    preset = get_preset(name, FLAGS.benchmark, parse_overrides(FLAGS.set))
    class_names, preset = choose_class_names(preset, benchmark)
    segmenter = ModelSegmenter(
        model, preset.normalisation, positions=preset.positions, devices=choose_devices(0)
    )
    result = runner.evaluate(
        segmenter, benchmark, preset, checkpoint=model.checkpoint, output=FLAGS.output,
        classes=embed_class_names(model.teacher, class_names, preset), class_names=class_names,
    )  # fmt: skip
    measured = result["miou"]
    published = source.alias.published.get(FLAGS.benchmark) if source.alias else None
    # ProxyCLIP's scores are those of OpenAI's ViT-B/16.
    other_clip = located.affinity is not None and located.alias is not ALIASES[DEFAULT]
    if published is None or other_clip:
        return None, f"published unknown, measured {measured:.1f}"
    close = abs(measured - published) <= MOST_DIFFERENCE
    return close, f"published {published:.1f}, measured {measured:.1f}"
