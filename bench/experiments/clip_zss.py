"""Ablation of CLIP-ZSS on playground/zss: GLM, PLM and the local term, over seeds.

    python -m bench.experiments.clip_zss                 writes docs/results/clip_zss.json
    python -m bench.experiments.clip_zss --sensitivity --steps=300 --seeds=1 \
        --output=docs/results/clip_zss_sensitivity.json  varies one constant at a time

Every method trains the same encoder for the same steps on the same images. Scores are on scenes of
EVALUATION_SEED, with --sensitivity on TUNE_SEED. A seed changes the initial parameters and the
order of the images. Runs that --output already has are skipped. "calibrated" are the scores of the
same run with ZegCLIP's calibration of seen classes (preset field seen_discount).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments.short_runs import score_items
from zeroseg_jax.assets.recipes import clip_zss
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.data.playground.scenes import EVALUATION_SEED, TUNE_SEED
from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.region_labels import prepare_regions
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.loop import Options, train

_NO_PLM = {
    "clip_zss.loss.latent": False,
    "clip_zss.loss.focal_weight": 0.0,
    "clip_zss.loss.dice_weight": 0.0,
    "clip_zss.loss.prototype_weight": 0.0,
}
_VIEWS = {"teacher.grids": (1, 2, 3, 4)}
_CALIBRATION = 0.1  # ZegCLIP's
_KEYS = ("seen", "unseen", "harmonic", "pixel_accuracy")
_COSINE = {"clip_zss.loss.local_weight": 10.0, "clip_zss.loss.local_form": "cosine"}
# Method -> changes of the recipe. "over views" and "cosine" are the project's own, "local" is the
# successor's.
METHODS = {
    "baseline": {**_NO_PLM, "clip_zss.loss.global_weight": 0.0},
    "GLM": _NO_PLM,
    "GLM over views": {**_NO_PLM, **_VIEWS},
    "PLM": {"clip_zss.loss.global_weight": 0.0},
    "GLM + PLM": {},
    "GLM + PLM + self-training": {"clip_zss.loss.self_training_begin": 0.5},
    "GLM + PLM + local": {"clip_zss.loss.local_weight": 1.0},
    "GLM + PLM + local, cosine": _COSINE,
}
# Constants that no source gives, away from the recipe's.
SENSITIVITY = {
    "the recipe": _COSINE,
    **{
        f"{field} {value}": {**_COSINE, f"clip_zss.loss.{field}": value}
        for field, values in (
            ("focal_weight", (5.0, 20.0)), ("seen_scale", (7.0, 28.0)), ("latent_scale", (28.0,)),
            ("latent_importance", (1.0,)), ("temperature", (0.2,)), ("local_weight", (3.0,)),
            ("stop_gradient", (False,)),
        )
        for value in values
    },
}  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/clip_zss", "directory of bank and runs")
    record.define_output("clip_zss")
    absl_flags.DEFINE_integer("steps", 0, "training steps of a run; 0: those of the recipe")
    absl_flags.DEFINE_integer("seeds", 3, "number of runs of each method")
    absl_flags.DEFINE_integer("images", 100, "number of evaluation scenes")
    absl_flags.DEFINE_bool("sensitivity", False, "vary constants instead of methods")
    absl_flags.DEFINE_list("methods", [], "methods to run; empty: all")


def main(arguments: list[str]) -> None:
    """Train and score every method with every seed, seed by seed."""
    del arguments
    use_compilation_cache()
    clip = load_teacher("playground")
    results = _open_results()
    # One bank has the views of all methods; a method reads those that it needs.
    config = _configure({"clip_zss.loss.local_weight": 1.0, **_VIEWS}, 0)
    directory = bank_directory(config, FLAGS.workdir)
    prepare_bank(config, directory, clip)
    results["regions"] = prepare_regions(config, directory, clip)
    methods = SENSITIVITY if FLAGS.sensitivity else METHODS
    for seed in range(FLAGS.seeds):
        for name in FLAGS.methods or methods:
            runs = results["methods"].setdefault(name, [])
            if any(run["seed"] == seed for run in runs):
                continue
            runs.append(_run(_configure(methods[name], seed), clip, name, seed))
            print(name, {k: v for k, v in runs[-1].items() if k != "per_class_iou"}, flush=True)
            results["summary"] = _summarise(results["methods"])
            record.write(results)
    print(render_table(results["summary"]))


def _open_results() -> dict:
    """Read the recorded results; refuse results of other settings."""
    recipe = _configure({}, 0)
    settings = {
        "steps": recipe.optim.steps,
        "batch": recipe.optim.batch_global,
        "bank_images": recipe.data.images,
        "image_px": recipe.model.image_px,
        "focal_weight": recipe.clip_zss.loss.focal_weight,
        "images": FLAGS.images,
        "scene_seed": _scene_seed(),
    }
    if before := record.read_earlier():
        if before["settings"] != settings:
            raise ValueError(
                f"--output: {FLAGS.output} has other settings ({before['settings']}); give another."
            )
        return before
    return {"settings": settings, "methods": {}}


def _scene_seed() -> int:
    return TUNE_SEED if FLAGS.sensitivity else EVALUATION_SEED


def _configure(changes: dict, seed: int) -> Config:
    raw = clip_zss.get_config("playground")
    raw.data.bank = str(Path(FLAGS.workdir) / "bank")
    raw.optim.steps = FLAGS.steps or raw.optim.steps
    raw.mesh.data = 1
    raw.run.update(seed=seed, checkpoint_every_steps=raw.optim.steps)
    raw.update_from_flattened_dict(changes)
    return from_mapping(raw.to_dict())


def _run(config: Config, clip: Teacher, name: str, seed: int) -> dict:
    begin = time.time()
    cpu = time.process_time()
    slug = "-".join(name.replace("+", "").replace(",", "").lower().split())
    workdir = Path(FLAGS.workdir) / f"{slug}-{config.optim.steps}-{seed}"
    done = train(config, workdir, teacher=clip, options=Options(log=lambda line: None))
    if not done["finished"]:
        raise ValueError(f"{workdir}: stopped at step {done['step']}; run again to resume.")
    trained = {"seed": seed, "seconds": round(time.time() - begin, 1)}
    trained["cpu_seconds"] = round(time.process_time() - cpu, 1)
    trained["last_losses"] = {k: v for k, v in done["record"].items() if k.startswith("loss")}
    params = load_params(workdir)[0]
    calibrated = score(params, config, clip, FLAGS.images, seen_discount=_CALIBRATION)
    return {
        **trained,
        **score(params, config, clip, FLAGS.images),
        "calibrated": {key: calibrated[key] for key in _KEYS},
    }


def score(
    params, config: Config, clip: Teacher, images: int, *, seen_discount: float = 0.0
) -> dict:
    """Score a student under the preset zss: percent, and IoU by class."""
    benchmark = get_benchmark("playground/zss", images=images, seed=_scene_seed())
    preset = get_preset("zss", benchmark.name, {"seen_discount": str(seen_discount)})
    segmenter = ModelSegmenter(Model("clip_zss", params, clip, "bench", config))
    items = (benchmark[i] for i in range(len(benchmark)))
    confusion = score_items(segmenter, benchmark, items, clip, preset)
    means = confusion.split_miou(list(get_split(config.clip_zss.labels.split).unseen))
    iou = confusion.class_iou()
    return {
        **{key: round(100 * value, 2) for key, value in means.items()},
        "pixel_accuracy": round(100 * confusion.pixel_accuracy(), 2),
        "per_class_iou": {
            name: round(100 * float(value), 2)
            for name, value in zip(benchmark.class_names, iou, strict=True)
        },
    }


def render_table(summary: dict) -> str:
    """Render means and standard deviations as a Markdown table."""
    lines = ["| | seen | unseen | harmonic | pixel accuracy |", "|---|---:|---:|---:|---:|"]
    for name, row in summary.items():
        cells = " | ".join(f"{row[key]['mean']:.1f} ± {row[key]['std']:.1f}" for key in _KEYS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _summarise(methods: dict) -> dict:
    summary = {}
    for name, runs in methods.items():
        summary[name] = _average(runs)
        if calibrated := [run["calibrated"] for run in runs if "calibrated" in run]:
            summary[f"{name}, calibrated"] = _average(calibrated)
    return summary


def _average(runs: list[dict]) -> dict:
    return {
        key: {
            "mean": round(float(np.mean([run[key] for run in runs])), 2),
            "std": round(float(np.std([run[key] for run in runs])), 2),
            "runs": len(runs),
        }
        for key in _KEYS
    }


if __name__ == "__main__":
    flags.run(main, define_flags)
