"""`zeroseg demo --workdir=DIR`: prepare, train and evaluate on the Playground, in minutes.

Trains a student without labels and scores it beside chance, the teacher's dense read-outs and the
shipped student, with figures.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags
from zeroseg_jax.commands.signals import SIGNAL_EXIT
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.mirrors import local_path

BENCHMARKS = ("playground/things", "playground/full")
# Rows of the table -> title, and name of the model; a student of this run is WORKDIR.
MODELS = {
    "chance": ("chance", "chance"),
    "raw": ("the teacher's own patches", "dense:raw"),
    "maskclip": ("the teacher by MaskCLIP", "dense:maskclip"),
    "student": ("the student of this run", ""),
    "shipped": ("the shipped student", "playground"),
}
_SCENE = 64  # index of an evaluation scene to try


def define_flags() -> None:
    """Define the flags of `demo`."""
    absl_flags.DEFINE_string("workdir", "runs/demo", "directory of the demo")
    absl_flags.DEFINE_integer(
        "images", 100, "number of evaluation scenes of each benchmark", lower_bound=1
    )
    absl_flags.DEFINE_integer("began", 0, "Unix time of the start of the installation; 0: unknown")
    absl_flags.DEFINE_integer(
        "steps", 0, "number of training steps; 0: those of the recipe", lower_bound=0
    )


def main(arguments: list[str]) -> int:
    """Run every stage and print scores and times; 128 + its number if a signal stops training."""
    del arguments
    from zeroseg_jax.assets.recipes import playground as recipe
    from zeroseg_jax.data.bank import bank_directory
    from zeroseg_jax.evaluation.report_index import write_index
    from zeroseg_jax.teacher.encode_bank import prepare_bank
    from zeroseg_jax.teacher.load import load_teacher
    from zeroseg_jax.training.loop import Options, train

    flags.use_compilation_cache()
    workdir = local_path(FLAGS.workdir, "--workdir")
    seconds: dict[str, float] = {}
    if FLAGS.began:
        seconds["setup"] = round(time.time() - FLAGS.began, 1)
        print(f"demo: installed in {seconds['setup']:.0f} s; 3 to 12 minutes to go", flush=True)
    config = from_mapping(recipe.get_config("default").to_dict())
    if FLAGS.steps:
        optim = dataclasses.replace(config.optim, steps=FLAGS.steps)
        config = dataclasses.replace(config, optim=optim)
    clip = load_teacher(config.teacher.directory)

    begin = time.time()
    prepare_bank(config, bank_directory(config, workdir), clip, _log)
    seconds["prepare"] = round(time.time() - begin, 1)

    begin = time.time()
    result = train(config, workdir, teacher=clip, options=Options(log=_log))
    if not result["finished"]:
        return SIGNAL_EXIT + result["signal"]
    seconds["train"] = round(time.time() - begin, 1)

    begin = time.time()
    scores = _evaluate(workdir)
    seconds["evaluate"] = round(time.time() - begin, 1)
    if FLAGS.began:
        seconds["total"] = round(time.time() - FLAGS.began, 1)
    _write_summary(workdir, scores, seconds)
    write_index(workdir / "reports")
    _print_table(workdir, scores, seconds)
    _print_next(workdir)
    return 0


def _log(line: str) -> None:
    print(line, flush=True)


def _evaluate(workdir: Path) -> dict[str, Any]:
    """Score every model with the preset, and without refinement to measure the model alone."""
    from zeroseg_jax.data.benchmarks import get_benchmark
    from zeroseg_jax.evaluation import runner
    from zeroseg_jax.evaluation.baselines import build_segmenter
    from zeroseg_jax.inference.presets import get_preset

    scores: dict[str, Any] = {"unrefined": {}}
    for name in BENCHMARKS:
        benchmark = get_benchmark(name, images=FLAGS.images)
        preset = get_preset("zeroseg", name)
        plain = get_preset("zeroseg", name, {"refine": "none"})
        short = name.removeprefix("playground/")
        scores[short], scores["unrefined"][short] = {}, {}
        class_names = [list(synonyms) for synonyms in benchmark.words]
        for model, (title, name_of_model) in MODELS.items():
            segmenter, classes, checkpoint = build_segmenter(
                name_of_model or str(workdir), class_names, preset
            )
            score = functools.partial(
                runner.evaluate, segmenter, benchmark, checkpoint=checkpoint, classes=classes,
                log=lambda line: None,
            )  # fmt: skip
            result = score(preset, output=workdir / "reports" / short / model)
            scores[short][model] = result["miou"]
            # Refinement follows the model, so the compiled model is reused.
            output = workdir / "reports-unrefined" / short / model
            result = score(plain, output=output, panels=0)
            scores["unrefined"][short][model] = result["miou"]
            _log(f"demo: {name}, {title}: mIoU {scores[short][model]:.1f}")
    return scores


def _write_summary(workdir: Path, scores: dict[str, Any], seconds: dict[str, float]) -> None:
    from zeroseg_jax.data import files
    from zeroseg_jax.training.workdir import describe_machine

    content = {**scores, "seconds": seconds, "images": FLAGS.images, **describe_machine()}
    files.write_json(workdir / "summary.json", content)


def _print_table(workdir: Path, scores: dict[str, Any], seconds: dict[str, float]) -> None:
    print(f"\nmIoU in percent, {FLAGS.images} unseen scenes, preset zeroseg")
    print(f"{'':44s}{'without refinement':>20s}")
    print(f"{'':32s}" + f"{'things':>10s}{'full':>10s}" * 2)
    plain = scores["unrefined"]
    for model, (title, _) in MODELS.items():
        row = (scores["things"], scores["full"], plain["things"], plain["full"])
        print(f"{title:32s}" + "".join(f"{column[model]:10.1f}" for column in row))
    print("\nseconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))
    print(f"reports: {workdir / 'reports' / 'index.html'}")


def _print_next(workdir: Path) -> None:
    """Draw a scene that was not trained on, and print the two commands to try next."""
    from zeroseg_jax.data import files
    from zeroseg_jax.data.playground.scenes import EVALUATION_SEED, build_scene, render

    scene = build_scene(EVALUATION_SEED, _SCENE)
    files.write_png(workdir / "scene.png", render(scene, 512)[0])
    words = ", ".join([*(thing.shape for thing in scene.things), *scene.stuff])
    # Without an activated environment the program is beside the interpreter.
    program = "zeroseg" if shutil.which("zeroseg") else Path(sys.executable).parent / "zeroseg"
    print("\ntry next:")
    print(f'  {program} segment {workdir / "scene.png"} --model={workdir} --words "{words}"')
    print(f"  {program} serve --model={workdir}")
