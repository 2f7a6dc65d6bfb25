"""Edges of the shipped student: refinement of preset zeroseg, and upsampling of segments.

    python -m bench.experiments.refinement

Scores are on scenes of TUNE_SEED, which no student trains on and no headline number uses. A row of
the first table is a set of overrides of the preset, of the second a set of overrides of model.head;
the other settings are those that ship, with model.head.context_share=0 (after_training.py).
"""

from __future__ import annotations

import dataclasses

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments.short_runs import score_items
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.inference import model
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter

BENCHMARKS = ("playground/things", "playground/full")
# Fractions of the short side, and ridges. The first pair is that of photographs.
_FILTERS = (
    (1 / 12, 1e-3), (1 / 6, 1e-3), (1 / 4, 1e-3), (1 / 4, 1e-4),
    (1 / 3, 1e-3), (1 / 3, 1e-4), (1 / 3, 3e-5), (1 / 2, 1e-4),
)  # fmt: skip
ROWS = {"none": {"refine": "none"}, "PAMR": {"refine": "pamr"}} | {
    f"guided, radius {radius:.3f}, eps {eps:g}": {
        "refine": "guided", "guided_radius": str(radius), "guided_eps": str(eps),
    }
    for radius, eps in _FILTERS
}  # fmt: skip
# Number of segments and upsampling of their maps, all of them settings of test time.
HEADS = {
    f"{segments} segments, bilinear": {"cluster_segments": segments, "upsampling": "bilinear"}
    for segments in (8, 12, 16)
} | {
    f"12 segments, guided, radius {radius:.3f}, eps {eps:g}": {
        "cluster_segments": 12, "upsampling": "guided",
        "upsampling_radius": radius, "upsampling_eps": eps,
    }
    for radius, eps in ((1 / 8, 3e-3), (1 / 6, 3e-3), (1 / 6, 1e-2), (1 / 4, 3e-3), (1 / 3, 1.4e-3))
}  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    record.define_output("refinement")
    absl_flags.DEFINE_integer("images", 96, "number of tune scenes")


def main(arguments: list[str]) -> None:
    """Score every row and print the table."""
    del arguments
    use_compilation_cache()
    student = _change_head(model.load("playground"), {"context_share": 0.0})
    sets = {}
    for name in BENCHMARKS:
        benchmark = get_benchmark(name, images=FLAGS.images, seed=TUNE_SEED)
        sets[name] = (benchmark, [benchmark[index] for index in range(len(benchmark))])
    rows = {row: _score(student, sets, changes) for row, changes in ROWS.items()}
    heads: dict[str, dict[str, dict[str, float]]] = {}
    for row, head in HEADS.items():
        changed = _change_head(student, head)
        heads[row] = {kind: _score(changed, sets, {"refine": kind}) for kind in ("none", "guided")}
    found = {"checkpoint": student.checkpoint, "rows": rows, "heads": heads}
    record.write({"images": FLAGS.images, **found})
    print("| refinement | things | full |\n|---|---:|---:|")
    for row, scores in rows.items():
        print(f"| {row} | " + " | ".join(f"{scores[name]:.1f}" for name in BENCHMARKS) + " |")
    print("\n| segments | things | full | things, refined | full, refined |")
    print("|---|---:|---:|---:|---:|")
    for row, kinds in heads.items():
        cells = [f"{scores[name]:.1f}" for scores in kinds.values() for name in BENCHMARKS]
        print(f"| {row} | " + " | ".join(cells) + " |")


def _change_head(student: model.Model, head: dict) -> model.Model:
    assert student.config is not None
    own = student.config.model
    own = dataclasses.replace(own, head=dataclasses.replace(own.head, **head))
    return dataclasses.replace(student, config=dataclasses.replace(student.config, model=own))


def _score(student: model.Model, sets: dict[str, tuple], changes: dict) -> dict[str, float]:
    segmenter = ModelSegmenter(student)
    scores = {}
    for name, (benchmark, items) in sets.items():
        preset = get_preset("zeroseg", name, changes)
        found = score_items(segmenter, benchmark, items, student.teacher, preset)
        scores[name] = round(100 * found.miou(), 2)
    return scores


if __name__ == "__main__":
    flags.run(main, define_flags)
