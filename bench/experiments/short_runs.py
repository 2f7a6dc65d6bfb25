"""Short training runs in one process: curves of every step, and scores on tune scenes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from zeroseg_jax.config import Config
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.model import from_run
from zeroseg_jax.inference.presets import Preset, get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.training import inputs, sharding, zeroseg
from zeroseg_jax.training.objective import Objective
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state, stream
from zeroseg_jax.training.step import Step, build_step

# Diagnostics of the segments among the metrics of a step.
DIAGNOSTICS = ("segment_cosine", "segments_used", "distinct_matches")
# Suffix of a score -> class filter of the preset: none, and by z as in the paper.
FILTERS = {"": "none", "_by_z": "topk_product"}


# Compiled steps of this process by settings, for all seeds and amounts of data.
_STEPS: dict[Config, Step] = {}


def train(config: Config, clip: Teacher, workdir: Path) -> tuple[dict, Any]:
    """Train one run; return its seconds and curves, and its parameters.

    A step takes a minute to compile, about as long as a short run. Runs that differ in seed or in
    number of images share one program.
    """
    source = inputs.build_inputs(config, workdir, clip, lambda line: None)
    optimizer = build_optimizer(config, config.optim.steps)
    objective = _keep_seed(zeroseg.build(config, clip, source), config.run.seed)
    # Not jitted: its small programs are compiled once for all runs. Without its placement the
    # second step would compile again.
    state = init_state(config, objective, optimizer)
    mesh = sharding.build_mesh(config)
    abstract_state = sharding.shard_state(jax.eval_shape(lambda: state), mesh)
    state = jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, abstract_state))
    shared = dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, seed=0),
        data=dataclasses.replace(config.data, images=0),
    )
    if shared not in _STEPS:
        _STEPS[shared] = build_step(config, objective, optimizer, mesh, abstract_state)
    step = _STEPS[shared]
    begin = time.time()
    batches = source.batches(0, batch_per_host=config.optim.batch_global)
    metrics = []
    for batch in itertools.islice(batches, config.optim.steps):
        fed = {name: value for name, value in batch.items() if name != "index"}
        state, values = step(state, fed)
        metrics.append(values)
    metrics = jax.device_get(metrics)
    curves = {
        name: [round(float(values[name]), 4) for values in metrics]
        for name in metrics[0]
        if name in DIAGNOSTICS or name.startswith("loss")
    }
    seconds = round(time.time() - begin, 1)
    return {"seconds": seconds, "curves": curves}, state.params


def _keep_seed(objective: Objective, seed: int) -> Objective:
    """Return an objective whose memory has the seed, which is thus no constant of the program.

    Its random keys are those of `zeroseg train` with this seed.
    """

    def loss_fn(params: Any, batch: Any, key: jax.Array, memory: Any) -> Any:
        del key
        key = stream(memory["seed"], "step", memory["step"])
        return objective.loss_fn(params, batch, key, None)

    return dataclasses.replace(
        objective,
        loss_fn=loss_fn,
        init_memory=lambda: {"seed": jnp.uint32(seed), "step": jnp.int32(0)},
        update_memory=lambda memory, batch: {**memory, "step": memory["step"] + 1},
    )


def score(
    params: Any,
    config: Config,
    clip: Teacher,
    images: int,
    benchmarks: tuple[str, ...] = ("things", "full"),
    filters: tuple[str, ...] = ("", "_by_z"),
    *,
    scene_seed: int = TUNE_SEED,
    refined: bool = False,
) -> dict[str, float]:
    """Score a student on Playground benchmarks, under class filters of FILTERS.

    Args:
      params: parameters of the student.
      config: settings of its run.
      clip: its teacher.
      images: number of scenes.
      benchmarks: names without "playground/".
      filters: keys of FILTERS.
      scene_seed: seed of the scenes.
      refined: True with the refinement of the preset; False without.

    Returns:
      mIoU in percent by benchmark and filter, its bound with true names, and segments_used, the
      mean number of segments in use on a whole image.
    """
    scores = {}
    model = ModelSegmenter(from_run(params, config, clip, "bench"))
    for short in benchmarks:
        name = f"playground/{short}"
        benchmark = get_benchmark(name, images=images, seed=scene_seed)
        for suffix in filters:
            plain = {} if refined else {"refine": "none"}
            preset = get_preset("zeroseg", name, {**plain, "image_filter": FILTERS[suffix]})
            with tempfile.TemporaryDirectory() as folder:
                report = runner.evaluate(
                    model, benchmark, preset, checkpoint="bench", output=folder, panels=0,
                    classes=embed_class_names(clip, benchmark.words, preset), log=lambda line: None,
                )  # fmt: skip
            scores[short + suffix] = report["miou"]
        scores[f"{short}_named_by_truth"] = report["diagnostics"]["oracle_naming_miou"]
        scores["segments_used"] = report["diagnostics"]["segments_used_per_image"]
    return scores


def score_items(
    segmenter: ModelSegmenter,
    benchmark: Any,
    items: Iterable[dict[str, Any]],
    clip: Teacher,
    preset: Preset,
) -> Confusion:
    """Count the pixels of a benchmark's items by truth and prediction, without a report."""
    classes = embed_class_names(clip, benchmark.words, preset)
    confusion = Confusion(len(benchmark.class_names))
    for item in items:
        labelled = runner.segment_image(segmenter, item["image"], classes, preset)
        confusion.add(item["label"], labelled.labels)
    return confusion


def render_spread(values: list[float], digits: int = 1) -> str:
    """Render a mean and, of several values, half their range."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    half = (max(values) - min(values)) / 2
    return mean if len(values) == 1 else f"{mean} ± {half:.{digits}f}"


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib Figure as PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=110)
    os.replace(part, path)
