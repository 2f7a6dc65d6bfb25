"""The whole job on the Playground: python -m zeroseg_jax demo --workdir=runs/demo.

Prepares a bank, trains a student without one label, scores it beside chance, its teacher's
dense read-outs and the student that ships, and draws pictures.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping

if TYPE_CHECKING:
    from zeroseg_jax import teacher
    from zeroseg_jax.inference.presets import Preset
    from zeroseg_jax.inference.segmenters import Segmenter

BENCHMARKS = ("playground/things", "playground/full")
MODELS = ("chance", "raw", "maskclip", "student", "shipped")


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", "runs/demo", "directory of the demo")
    absl_flags.DEFINE_integer("images", 100, "number of scenes per benchmark", lower_bound=1)
    absl_flags.DEFINE_integer("began", 0, "unix time at which the installation began; 0: none")
    absl_flags.DEFINE_integer(
        "steps", 0, "number of training steps; 0: the recipe's", lower_bound=0
    )


def main(arguments: list[str]) -> None:
    """Run every stage, tell what it took, and end with a table."""
    del arguments
    from zeroseg_jax import teacher
    from zeroseg_jax.assets.recipes import playground as recipe
    from zeroseg_jax.data.bank import bank_directory
    from zeroseg_jax.teacher.encode_bank import prepare_bank
    from zeroseg_jax.training.loop import Options, train

    flags.use_compilation_cache()
    workdir = Path(FLAGS.workdir)
    seconds: dict[str, float] = {}
    if FLAGS.began:
        seconds["setup"] = round(time.time() - FLAGS.began, 1)
        print(f"demo: installed in {seconds['setup']:.0f} s; 3 to 12 minutes to go", flush=True)
    config = from_mapping(recipe.get_config("default").to_dict())
    if FLAGS.steps:
        optim = dataclasses.replace(config.optim, steps=FLAGS.steps)
        config = dataclasses.replace(config, optim=optim)
    clip = teacher.load(config.teacher.directory)

    begin = time.time()
    prepare_bank(config, bank_directory(config, workdir), clip, _say)
    seconds["prepare"] = round(time.time() - begin, 1)

    begin = time.time()
    train(config, workdir, teacher=clip, options=Options(log=_say))
    seconds["train"] = round(time.time() - begin, 1)

    begin = time.time()
    scores = _evaluate(workdir, clip)
    seconds["evaluate"] = round(time.time() - begin, 1)
    if FLAGS.began:
        seconds["total"] = round(time.time() - FLAGS.began, 1)
    _write_summary(workdir, scores, seconds)
    _print_table(workdir, scores, seconds)


def _say(line: str) -> None:
    print(line, flush=True)


def _evaluate(workdir: Path, clip: teacher.Teacher) -> dict[str, Any]:
    """Score every model as the preset says, and without refinement: what it alone is worth."""
    from zeroseg_jax.data.benchmarks import get_benchmark
    from zeroseg_jax.evaluation import runner
    from zeroseg_jax.inference.model import embed_class_names
    from zeroseg_jax.inference.presets import get_preset

    scores: dict[str, Any] = {"unrefined": {}}
    for name in BENCHMARKS:
        benchmark = get_benchmark(name, images=FLAGS.images)
        preset = get_preset("zeroseg", name)
        plain = get_preset("zeroseg", name, {"pamr_dilations": ""})
        short = name.removeprefix("playground/")
        scores[short], scores["unrefined"][short] = {}, {}
        for model in MODELS:
            segmenter, checkpoint = _build(model, workdir, clip, preset)
            words = [list(names) for names in benchmark.words]
            score = functools.partial(
                runner.evaluate, segmenter, benchmark, checkpoint=checkpoint, log=_say,
                classes=embed_class_names(clip, words, preset),
            )  # fmt: skip
            result = score(preset, output=workdir / "reports" / short / model)
            scores[short][model] = result["miou"]
            # Refinement comes after the model: the same compiled one serves.
            output = workdir / "reports-unrefined" / short / model
            result = score(plain, output=output, panels=0)
            scores["unrefined"][short][model] = result["miou"]
    return scores


def _build(
    name: str, workdir: Path, clip: teacher.Teacher, preset: Preset
) -> tuple[Segmenter, str]:
    from zeroseg_jax.evaluation.baselines import build_baseline
    from zeroseg_jax.inference.model import load
    from zeroseg_jax.inference.segmenters import ModelSegmenter

    if name in ("student", "shipped"):
        model = load(workdir if name == "student" else "playground")
        return ModelSegmenter(model, preset.normalisation), model.checkpoint
    kind = name if name == "chance" else f"dense:{name}"
    return build_baseline(kind, clip, preset), kind


def _write_summary(workdir: Path, scores: dict[str, Any], seconds: dict[str, float]) -> None:
    from zeroseg_jax.data import files
    from zeroseg_jax.training.metrics import describe_machine

    content = {**scores, "seconds": seconds, "images": FLAGS.images, **describe_machine()}
    files.write_json(workdir / "summary.json", content)


def _print_table(workdir: Path, scores: dict[str, Any], seconds: dict[str, float]) -> None:
    rows = {
        "chance": "chance",
        "raw": "the teacher's own patches",
        "maskclip": "the teacher by MaskCLIP",
        "student": "the student trained just now",
        "shipped": "the student that ships",
    }
    print(f"\nmIoU in percent, {FLAGS.images} unseen scenes, preset zeroseg")
    print(f"{'':44s}{'and without PAMR':>20s}")
    print(f"{'':32s}" + f"{'things':>10s}{'full':>10s}" * 2)
    plain = scores["unrefined"]
    for model, words in rows.items():
        row = (scores["things"], scores["full"], plain["things"], plain["full"])
        print(f"{words:32s}" + "".join(f"{column[model]:10.1f}" for column in row))
    print("\nseconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))
    reports = workdir / "reports" / "things"
    print(f"report:   {reports / 'student' / 'report.md'}")
    print(f"pictures: {reports / 'student' / 'pictures'}")
    print(f"          {reports / 'shipped' / 'pictures'}")
