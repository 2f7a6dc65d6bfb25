"""Edge refinement of the Playground's preset: PAMR and guided filters on the shipped student.

    python -m bench.experiments.refinement

Scores are on scenes of TUNE_SEED, which no student trains on and no headline number uses. A row of
the printed table is a set of overrides of preset zeroseg.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.evaluation.runner import segment_image
from zeroseg_jax.inference import model
from zeroseg_jax.inference.class_vectors import embed_class_names
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


def define_flags() -> None:
    """Define the flags."""
    record.define_output("refinement")
    absl_flags.DEFINE_integer("images", 96, "number of tune scenes")


def main(arguments: list[str]) -> None:
    """Score every row and print the table."""
    del arguments
    use_compilation_cache()
    student = model.load("playground")
    segmenter = ModelSegmenter(student)
    scores: dict[str, dict[str, float]] = {row: {} for row in ROWS}
    for name in BENCHMARKS:
        benchmark = get_benchmark(name, images=FLAGS.images, seed=TUNE_SEED)
        items = [benchmark[index] for index in range(len(benchmark))]
        for row, changes in ROWS.items():
            preset = get_preset("zeroseg", name, changes)
            classes = embed_class_names(student.teacher, benchmark.words, preset)
            confusion = Confusion(len(benchmark.class_names))
            for item in items:
                labels, _, _ = segment_image(segmenter, item["image"], classes, preset)
                confusion.add(item["label"], labels)
            scores[row][name] = round(100 * confusion.miou(), 2)
    record.write({"images": FLAGS.images, "checkpoint": student.checkpoint, "rows": scores})
    print("| refinement | things | full |\n|---|---:|---:|")
    for row, found in scores.items():
        print(f"| {row} | " + " | ".join(f"{found[name]:.1f}" for name in BENCHMARKS) + " |")


if __name__ == "__main__":
    flags.run(main, define_flags)
