"""Speed of evaluation against the vision tower of transformers' GroupViT in torch.

    python -m bench.speed.evaluate

All parts alternate in one process and medians over rounds are recorded. Weights are random: speed
does not depend on them. Two minutes on two idle cores.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable

import jax
import numpy as np
import torch
from absl import flags as absl_flags
from absl.flags import FLAGS
from torch.utils.flop_counter import FlopCounterMode
from transformers import GroupViTVisionConfig, GroupViTVisionModel

from bench import record
from bench.speed.timing import Rounds, median_seconds, ratios, time_in_turns
from zeroseg_jax.assets.recipes import imagenet
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.measure import measure_image
from zeroseg_jax.inference import batches, windows
from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import ClassVectors, pack_classes
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.models.zeroseg.student import build_student, init_params
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training.plan.costs import count_flops

_WINDOW_PX = 448
_CLASSES = 21
_WINDOWS = 3  # of each model in a round


class Photos:
    """Benchmark of smooth random images of VOC's usual size, with masks of rectangles."""

    name, has_background = "bench", True
    class_names = ("background", *(f"class {i}" for i in range(1, _CLASSES)))
    words = tuple((name,) for name in class_names[1:])

    def __init__(self, images: int):
        rng = np.random.default_rng(0)
        self._items = []
        for i in range(images):
            coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
            image = windows.resize_image(coarse, 375, 500, "antialiased").astype(np.uint8)
            label = rng.integers(-1, _CLASSES, (5, 5)).repeat(75, axis=0).repeat(100, axis=1)
            self._items.append({"image": image, "label": label.astype(np.int32), "name": str(i)})

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        return self._items[index]


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 5, "number of rounds", lower_bound=1)
    absl_flags.DEFINE_integer("images", 4, "number of images of a round", lower_bound=1)
    record.define_output("evaluate_speed")


def main(arguments: list[str]) -> None:
    """Time, print, and write."""
    del arguments
    preset = get_preset("groupvit", "voc21")
    segmenter, classes = _build_student()
    photos = Photos(FLAGS.images)
    tower = GroupViTVisionModel(GroupViTVisionConfig(image_size=_WINDOW_PX)).eval()
    parts = _list_parts(segmenter, classes, tower, photos, preset)
    rounds = time_in_turns(parts, FLAGS.rounds)
    result = {**_summarise(rounds), "gflop_a_window": _count_work(segmenter, tower)}
    record.write(result)
    print(json.dumps({k: v for k, v in result.items() if k != "seconds"}, indent=1))


def _build_student() -> tuple[ModelSegmenter, ClassVectors]:
    config = from_mapping(imagenet.get_config("vit_s16").to_dict())
    params = init_params(build_student(config.model), jax.random.key(0))
    text = np.random.default_rng(0).normal(size=(_CLASSES - 1, config.model.embed_dim))
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32)
    model = Model("zeroseg", params, load_teacher("playground"), "bench", config)
    return ModelSegmenter(model), pack_classes([row[None] for row in text])


def _list_parts(
    segmenter, classes, tower, photos: Photos, preset
) -> dict[str, Callable[[], object]]:
    """Return the timed calls by name; each takes all photos, or _WINDOWS windows one by one."""
    items = [photos[i] for i in range(len(photos))]

    def resize():
        return [batches.resize_and_lay_out(item["image"], preset, segmenter) for item in items]

    laid_out = resize()
    shape = (1, _WINDOW_PX, _WINDOW_PX, 3)
    window = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    pixels = torch.from_numpy(window.transpose(0, 3, 1, 2) / 255)
    scored = list(batches.score_images(segmenter, resize(), classes, preset, batch=8))

    def label():
        return [
            runner.label_windows(segmenter, one, item["image"], classes, preset)
            for one, item in zip(scored, items, strict=True)
        ]

    labelled = label()

    def score(windows):
        return tuple(segmenter.score(segmenter.encode(windows), classes, preset))

    def run_torch():
        with torch.inference_mode():
            for _ in range(_WINDOWS):
                tower(pixel_values=pixels)

    def run_student():
        for _ in range(_WINDOWS):
            jax.block_until_ready(score(window))

    def run_forward():
        for one in laid_out:
            for area in one.layout.areas():
                jax.block_until_ready(score(one.resized[area][None]))

    def run_whole():
        with tempfile.TemporaryDirectory() as folder:
            runner.evaluate(
                segmenter, photos, preset, checkpoint="bench", output=folder, panels=0,
                classes=classes, log=lambda line: None,
            )  # fmt: skip

    return {
        "torch_groupvit_windows": run_torch,
        "student_windows": run_student,
        "forward": run_forward,
        "whole": run_whole,
        "resize": resize,
        "paste": label,
        "metric": lambda: [
            measure_image(photos, item, one.labels, one.segment_ids)
            for item, one in zip(items, labelled, strict=True)
        ],
    }


def _count_work(segmenter: ModelSegmenter, tower) -> dict[str, float]:
    """Count GFLOP of one window, multiplications and additions of matrix products."""
    shape = (1, _WINDOW_PX, _WINDOW_PX, 3)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        tower(pixel_values=torch.zeros(1, 3, _WINDOW_PX, _WINDOW_PX))
    return {
        "student": round(count_flops(segmenter.encode, np.zeros(shape, np.float32)) / 1e9, 1),
        "torch_groupvit": round(counter.get_total_flops() / 1e9, 1),
    }


def _summarise(rounds: Rounds) -> dict:
    median = {name: median_seconds(rounds, name) for name in rounds[0]}
    faster = ratios(rounds, "torch_groupvit_windows", "student_windows")
    share = ratios(rounds, "forward", "whole")
    split = ("forward", "resize", "paste", "metric")
    return {
        "window_px": _WINDOW_PX,
        "images_a_round": FLAGS.images,
        "windows_an_image": 2,
        "rounds": FLAGS.rounds,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "torch_groupvit_windows_per_second": round(_WINDOWS / median["torch_groupvit_windows"], 2),
        "student_windows_per_second": round(_WINDOWS / median["student_windows"], 2),
        "student_over_torch": round(statistics.median(faster), 3),
        "student_over_torch_range": [round(min(faster), 3), round(max(faster), 3)],
        "whole_over_forward": round(statistics.median(share), 3),
        "whole_over_forward_range": [round(min(share), 3), round(max(share), 3)],
        "milliseconds_an_image": {
            name: round(1000 * median[name] / FLAGS.images, 1) for name in (*split, "whole")
        },
        "seconds": {name: [round(row[name]["wall"], 4) for row in rounds] for name in rounds[0]},
    }


if __name__ == "__main__":
    flags.run(main, define_flags)
