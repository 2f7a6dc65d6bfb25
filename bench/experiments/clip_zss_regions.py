"""Fit of CLIP-ZSS's regions to the truth, for settings that the paper does not give.

python -m bench.experiments.clip_zss_regions

Tune scenes of the Playground with nothing annotated, 12 x 12 teacher tokens. For each thing and
each kind of stuff of at least 1 % of the picture, the best IoU with any region; the means. And
how often the teacher names a region of zeroseg_regions right by each way to show it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.tokens import dense_tokens
from zeroseg_jax.assets.recipes import zeroseg_regions
from zeroseg_jax.commands import flags
from zeroseg_jax.config import RegionsConfig, from_mapping
from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.data.playground.scenes import (
    SHAPES,
    STUFF,
    TUNE_SEED,
    build_scene,
    encode_scene,
    render,
)
from zeroseg_jax.data.seen_labels import SeenLabels
from zeroseg_jax.teacher.class_embeddings import embed_classes
from zeroseg_jax.teacher.clustering import find_regions
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.region_labels import best_overlaps, region_threads, view_region
from zeroseg_jax.teacher.views import build_encoder

_SIDE_PX = 96
READOUTS = ("clearclip", "maskclip", "raw")
WINDOWS = ((3,), (6,), (3, 6), (2, 4, 8))
LAMBDAS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("images", 96, "number of scenes", lower_bound=1)
    record.define_output("clip_zss_regions")


def main(arguments: list[str]) -> None:
    """Score every setting."""
    del arguments
    clip = load_teacher("playground")
    scenes = [render(build_scene(TUNE_SEED, i), _SIDE_PX) for i in range(FLAGS.images)]
    truths = [encode_scene(labels) for _, labels in scenes]
    split = get_split("none")
    kinds = {
        "things": dataclasses.replace(split, unseen=tuple(range(len(SHAPES)))),
        "stuff": dataclasses.replace(
            split, unseen=tuple(range(len(SHAPES), len(SHAPES) + len(STUFF)))
        ),
    }
    images = [image for image, _ in scenes]
    rows = []
    for readout in READOUTS:
        tokens = dense_tokens(clip, images, readout)
        free = np.ones(tokens.shape[1:3], bool)
        for windows, merge_above in itertools.product(WINDOWS, LAMBDAS):
            settings = RegionsConfig(seed_windows=windows, merge_cosine=merge_above)
            find = functools.partial(find_regions, free=free, settings=settings)
            with region_threads() as pool:
                regions = list(pool.map(find, tokens))
            best: dict[str, list[float]] = {kind: [] for kind in kinds}
            for one, truth in zip(regions, truths, strict=True):
                ids = enlarge(one.ids, len(truth))
                seen = SeenLabels(truth, np.zeros(0, np.int64), truth)
                for kind, part in kinds.items():
                    best[kind] += best_overlaps(ids, seen, part)
            rows.append(
                {
                    "readout": readout,
                    "windows": windows,
                    "merge_above": merge_above,
                    "regions": round(float(np.mean([one.count for one in regions])), 2),
                    **{kind: round(float(np.mean(values)), 3) for kind, values in best.items()},
                }
            )
            print(rows[-1], flush=True)
    named = name_views(clip, scenes, truths)
    print(named)
    record.write({"rows": rows, "named_right": named})


def enlarge(ids: np.ndarray, side: int) -> np.ndarray:
    """Repeat tokens (h, w) to pixels (side, side)."""
    scale = side // len(ids)
    return ids.repeat(scale, axis=0).repeat(scale, axis=1)


def name_views(clip: Teacher, scenes: list, truths: list[np.ndarray]) -> dict[str, dict]:
    """Return the teacher's accuracy on regions, weighted by area, by kind of view."""
    settings = from_mapping(zeroseg_regions.get_config("playground").to_dict()).clip_zss.regions
    masks, images, wanted = [], [], []
    for (image, _), truth in zip(scenes, truths, strict=True):
        tokens = dense_tokens(clip, [image], settings.readout)[0]
        found = find_regions(tokens, np.ones(tokens.shape[:2], bool), settings)
        enlarged = enlarge(found.ids, len(truth))
        for region in range(found.count):
            mask = enlarged == region
            ids, counts = np.unique(truth[mask], return_counts=True)
            masks.append(mask)
            images.append(image)
            wanted.append(ids[counts.argmax()])
    text = embed_classes(clip, [[word] for word in (*SHAPES, *STUFF)], "playground", None).classes
    wanted, area = np.array(wanted), np.array([mask.sum() for mask in masks])
    encode, result = build_encoder(clip), {}
    for how in ("masked", "cropped", "by_size"):
        pairs = zip(images, masks, strict=True)
        views = np.stack([view_region(image, mask, how, clip) for image, mask in pairs])
        right = (np.asarray(encode(views[:, None]))[:, 0] @ text.T).argmax(axis=1) == wanted
        result[how] = {
            kind: round(float(np.average(right[which], weights=area[which])), 3)
            for kind, which in (("things", wanted < len(SHAPES)), ("stuff", wanted >= len(SHAPES)))
        }
    return result


if __name__ == "__main__":
    flags.run(main, define_flags)
