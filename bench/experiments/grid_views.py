"""Class of each view of a grid by the teacher, against the scene's truth: the reason for Table 3.

    python -m bench.experiments.grid_views

Scenes of TUNE_SEED, playground/full. A view is right if its most similar class name is the class of
most of its pixels. "Cells" gives every pixel the class of its view, scored as mIoU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.data.transforms import cut_views
from zeroseg_jax.data.views import Window, grid_windows
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.views import build_encoder

GRIDS = (1, 2, 3, 4)
_STUFF = 6  # the last classes of playground/full


def define_flags() -> None:
    """Define the flags."""
    record.define_output("grid_views")
    absl_flags.DEFINE_integer("images", 48, "number of scenes")


def main(arguments: list[str]) -> None:
    """Classify the views of every grid and print the table."""
    del arguments
    clip = load_teacher("playground")
    benchmark = get_benchmark("playground/full", images=FLAGS.images, seed=TUNE_SEED)
    preset = get_preset("zeroseg", benchmark.name)
    classes = embed_class_names(clip, benchmark.words, preset)
    vectors = np.asarray(classes.vectors)[: len(classes.class_ids)]
    encode = build_encoder(clip)
    items = [benchmark[index] for index in range(len(benchmark))]
    results: dict[str, Any] = {"images": FLAGS.images, "grids": {}}
    for grid in GRIDS:
        windows = grid_windows((grid,), False)
        views = np.stack([cut_views(item["image"], windows, clip.image_px) for item in items])
        names = classes.class_ids[(np.asarray(encode(views)) @ vectors.T).argmax(axis=-1)]
        results["grids"][str(grid)] = score_views(names, windows, items, len(benchmark.words))
        print(grid, results["grids"][str(grid)], flush=True)
    record.write(results)


def score_views(
    names: np.ndarray, windows: list[Window], items: list[dict[str, Any]], classes: int
) -> dict[str, float | None]:
    """Score the class ids (images, views) of the views of a grid, in percent."""
    confusion = Confusion(classes)
    right, things = [], []
    for row, item in zip(names, items, strict=True):
        label = item["label"]
        cells = np.empty_like(label)
        for name, window in zip(row, windows, strict=True):
            top, left, bottom, right_edge = (int(np.rint(edge * len(label))) for edge in window)
            place = slice(top, bottom), slice(left, right_edge)
            cells[place] = name
            truth = label[place]
            most = np.bincount(truth[truth >= 0], minlength=classes).argmax()
            right.append(most == name)
            things.append(most < classes - _STUFF)
        confusion.add(label, cells)
    of_things = np.array(right)[np.array(things)]
    return {
        "views_right": round(100 * float(np.mean(right)), 1),
        "views_of_things": round(100 * float(np.mean(things)), 1),
        "views_of_things_right": round(100 * float(of_things.mean()), 1) if any(things) else None,
        "views_named_thing": round(100 * float((names < classes - _STUFF).mean()), 1),
        "cells_miou": round(100 * confusion.miou(), 1),
    }


if __name__ == "__main__":
    flags.run(main, define_flags)
