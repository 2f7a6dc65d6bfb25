"""Ablation of the Playground recipe: each own term, over seeds.

    python -m bench.experiments.playground_terms --workdir=runs/terms

Every variant trains on the same bank for the same steps. Scores are on scenes of TUNE_SEED, which
are used neither for training nor for headline numbers, and unrefined, to measure the student
alone. A seed changes the initial parameters and the order of the images. An interrupted run
resumes after the last variant in --output. The printed table is that of docs/playground.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.assets.recipes import playground
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.evaluation import runner
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.training import inputs, sharding, zeroseg
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step

# Variant -> (recipe, dotted overrides): the paper's objective, the default, and the default
# with one thing put back to the paper's, or taken away.
VARIANTS = {
    "default": ("default", {}),
    "faithful": ("faithful", {}),
    "learned grouping": ("default", {"model.head.grouping": "learned", "loss.patch": 0.0}),
    "no region read-out": ("default", {"model.head.region_readout": False}),
    "no inside term": ("default", {"loss.inside": 0.0}),
    "no cell term": ("default", {"loss.cell": 0.0}),
    "encoder from scratch": ("default", {"model.encoder.init": "scratch"}),
    "views without overlap": ("default", {"teacher.overlap": False}),
    "no patch term": ("default", {"loss.patch": 0.0}),
    "mask ratio 0.6": ("default", {"model.mask_ratio": 0.6}),
    "head reads the last block only": ("default", {"model.head.all_levels": False}),
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/terms", "directory of the bank")
    record.define_output("playground_terms")
    absl_flags.DEFINE_integer("steps", 80, "training steps of a run")
    absl_flags.DEFINE_integer("batch", 16, "images a step")
    absl_flags.DEFINE_integer("seeds", 3, "number of runs of each variant")
    absl_flags.DEFINE_integer("bank_images", 768, "number of scenes in the bank")
    absl_flags.DEFINE_integer("images", 48, "number of evaluation scenes")


def main(arguments: list[str]) -> None:
    """Train and score every variant with every seed; results are written after each."""
    del arguments
    use_compilation_cache()
    names = ("steps", "batch", "seeds", "bank_images", "images")
    settings = {name: FLAGS[name].value for name in names}
    results = {**settings, "variants": {}}
    if before := record.read_earlier():
        if any(before[name] != settings[name] for name in names):
            raise ValueError(f"--output: {FLAGS.output} has other settings; give another.")
        results["variants"] = before["variants"]
    clip = load_teacher("playground")
    for name, (recipe, overrides) in VARIANTS.items():
        if name in results["variants"]:
            continue
        config = _configure(recipe, overrides)
        prepare_bank(config, bank_directory(config, FLAGS.workdir), clip)
        results["variants"][name] = _run_variant(config, clip, name)
        record.write(results)
    print(render_table(results["variants"]))


def render_table(variants: dict[str, list[dict]]) -> str:
    """Render mean and half the range over seeds as a Markdown table."""
    columns = ("things", "full", "things_oracle_naming", "segments_used")
    lines = ["| recipe | things | full | things, named by truth | segments used |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, runs in variants.items():
        cells = []
        for column in columns:
            values = [run[column] for run in runs]
            cells.append(f"{statistics.mean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _configure(recipe: str, overrides: dict) -> Config:
    raw = playground.get_config(recipe)
    # Training alone is compared.
    raw.model.encoder.teacher_share = raw.model.head.context_share = 0.0
    raw.update_from_flattened_dict(overrides)
    raw.data.images = FLAGS.bank_images
    raw.data.bank = f"{FLAGS.workdir}/bank-{'overlap' if raw.teacher.overlap else 'grid'}"
    raw.optim.update(batch_global=FLAGS.batch, base_rate=1e-3 * 256 / FLAGS.batch)
    raw.optim.steps = FLAGS.steps
    raw.mesh.data = 1
    return from_mapping(raw.to_dict())


def _run_variant(config: Config, clip: Teacher, name: str) -> list[dict]:
    optimizer = build_optimizer(config, FLAGS.steps)
    mesh, step = sharding.build_mesh(config), None
    source = inputs.build_inputs(config, Path(FLAGS.workdir), clip, print)
    runs = []
    for seed in range(FLAGS.seeds):
        seeded = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        objective = zeroseg.build(seeded, clip, source)
        state = init_state(seeded, objective, optimizer)
        if step is None:
            like = sharding.shard_state(state, mesh)
            step = build_step(config, objective, optimizer, mesh, like)
        begin = time.time()
        batches = dataclasses.replace(source, config=seeded).batches(0, batch_per_host=FLAGS.batch)
        for batch in itertools.islice(batches, FLAGS.steps):
            fed = {"image": batch["image"], "features": batch["features"]}
            state, metrics = step(state, fed)
        record = {key: float(value) for key, value in jax.device_get(metrics).items()}
        run = {"seed": seed, "seconds": round(time.time() - begin, 1), "last": record}
        runs.append({**run, **_score(state.params, config, clip)})
        print(name, {key: value for key, value in runs[-1].items() if key != "last"}, flush=True)
    return runs


def _score(params, config: Config, clip: Teacher) -> dict:
    scores = {}
    for benchmark_name in ("playground/things", "playground/full"):
        benchmark = get_benchmark(benchmark_name, images=FLAGS.images, seed=TUNE_SEED)
        preset = get_preset("zeroseg", benchmark_name, {"refine": "none"})
        segmenter = ModelSegmenter(Model("zeroseg", params, clip, "bench", config))
        with tempfile.TemporaryDirectory() as folder:
            report = runner.evaluate(
                segmenter, benchmark, preset, checkpoint="bench", output=folder, panels=0,
                classes=embed_class_names(clip, benchmark.words, preset), log=lambda line: None,
            )  # fmt: skip
        short = benchmark_name.removeprefix("playground/")
        scores[short] = report["miou"]
        scores[f"{short}_oracle_naming"] = report["diagnostics"]["oracle_naming_miou"]
        scores["segments_used"] = report["diagnostics"]["segments_used_per_image"]
    return scores


if __name__ == "__main__":
    flags.run(main, define_flags)
