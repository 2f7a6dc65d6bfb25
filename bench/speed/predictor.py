"""Seconds per image: Predictor against transformers' GroupViT in torch.

python -m bench.speed.predictor

The input is an image of 640 x 480 px and 10 class names, with random weights and equal threads on
both sides. The published GroupViT is a ViT-S; a ViT-S student is compared with it, and the ViT-B
student also with a GroupViT of its own width. `forward` is one pass of the vision part over a
square of 224 px; `end to end` is from the decoded image to a mask of its size.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.inference.model import Model
from zeroseg_jax.inference.predictor import Predictor
from zeroseg_jax.models.sizes import SIZES
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher.load import load_teacher

WORDS = ["cat", "dog", "grass", "sky", "tree", "road", "car", "person", "water", "house"]
_COMMAND = ("-m", "zeroseg_jax", "segment", "docs/images/scene.png",
            "--model=playground", "--words=star; heart; moon; night; grass")  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("repeats", 5, "number of timed calls; the median counts", 3)
    record.define_output("predictor_speed")


def build_predictor(size: str) -> Predictor:
    """Build a student of random weights, grouping learned as in the paper; the shipped CLIP."""
    clip = load_teacher("playground")
    config = from_mapping({"model": {**SIZES[size], "embed_dim": clip.embed_dim}})
    params = students.init_params(students.build_student(config.model), jax.random.key(0))
    model = Model("zeroseg", params, clip, f"random {size} at step 0", config)
    return Predictor(model, cache_names=False)


def build_groupvit(width: int, heads: int) -> tuple[Callable, Callable]:
    """Build torch's GroupViT of random weights: forward(pixels), and segment(picture, ids)."""
    import torch
    from transformers import GroupViTConfig, GroupViTModel

    config = GroupViTConfig()
    vision = config.vision_config
    vision.hidden_size, vision.num_attention_heads = width, heads
    vision.intermediate_size = 4 * width
    model = GroupViTModel(config).eval()

    @torch.inference_mode()
    def forward(pixels):
        return model.vision_model(pixels)

    @torch.inference_mode()
    def segment(picture, ids):
        # What GroupViTProcessor does, with torch's own resize: 224 x 224, normalised.
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bicubic", antialias=True)
        outputs = model(
            input_ids=ids, pixel_values=(pixels - 0.45) / 0.27, output_segmentation=True
        )
        logits = torch.nn.functional.interpolate(
            outputs.segmentation_logits, picture.shape[:2], mode="bilinear"
        )
        return logits.argmax(dim=1)

    return forward, segment


def time_call(run: Callable[[], Any]) -> dict[str, float]:
    """Time a call: the first, and the median and spread of later ones, in seconds."""
    begin = time.perf_counter()
    run()
    first = time.perf_counter() - begin
    seconds = []
    for _ in range(FLAGS.repeats):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return {
        "first": round(first, 3),
        "median": round(statistics.median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
    }


def measure_student(size: str, picture: np.ndarray) -> dict[str, Any]:
    """Measure forward and end to end of a student, its cache cleared before every call."""
    predictor = build_predictor(size)
    square = np.ascontiguousarray(picture[:224, :224].astype(np.float32))[None]

    def segment(refine: bool, clear: bool = True) -> None:
        if clear:
            predictor.clear_cache()
        predictor.segment(picture, WORDS, refine=refine)

    return {
        "forward": time_call(lambda: jax.block_until_ready(predictor.segmenter.encode(square))),
        "end_to_end": time_call(lambda: segment(True)),
        "end_to_end_unrefined": time_call(lambda: segment(False)),
        "new_words_on_the_same_picture": time_call(lambda: segment(True, False)),
    }


def measure_groupvit(width: int, heads: int, picture: np.ndarray) -> dict[str, Any]:
    """Measure forward and end to end of GroupViT; it reads the words in every call."""
    import torch

    forward, segment = build_groupvit(width, heads)
    pixels = torch.zeros(1, 3, 224, 224)
    ids = torch.randint(1, 40_000, (len(WORDS), 77))
    ids[:, -1] = 49_407
    return {
        "forward": time_call(lambda: forward(pixels)),
        "end_to_end": time_call(lambda: segment(picture, ids)),
    }


def measure_start() -> dict[str, float]:
    """Time the command line from its start to its files, compiled programs and words kept."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, *_COMMAND, f"--output={folder}/out"]

        def run() -> None:
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

        return time_call(run)


def main(arguments: list[str]) -> None:
    """Measure all, one after the other, and say ratios."""
    del arguments
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    picture = render(build_scene(2, 7), 640)[0][:480]
    found = {
        "load_at_the_start": os.getloadavg()[0],
        "command_line": measure_start(),
        "students": {size: measure_student(size, picture) for size in ("vit_b16", "vit_s16")},
        "groupvit": {
            "published, width 384": measure_groupvit(384, 6, picture),
            "as wide as ViT-B, 768": measure_groupvit(768, 12, picture),
        },
    }
    ratios = {}
    for student, peer in (
        ("vit_b16", "as wide as ViT-B, 768"),
        ("vit_b16", "published, width 384"),
        ("vit_s16", "published, width 384"),
    ):
        mine, theirs = found["students"][student], found["groupvit"][peer]
        ratios[f"{student} against GroupViT {peer}"] = {
            "forward": round(theirs["forward"]["median"] / mine["forward"]["median"], 2),
            "end_to_end": round(theirs["end_to_end"]["median"] / mine["end_to_end"]["median"], 2),
            "end_to_end_unrefined": round(
                theirs["end_to_end"]["median"] / mine["end_to_end_unrefined"]["median"], 2
            ),
        }
    content = {
        "input": f"{picture.shape[1]} x {picture.shape[0]} px, {len(WORDS)} words",
        "torch": torch.__version__,
        "times_as_fast": ratios,
        **found,
        "load_at_the_end": os.getloadavg()[0],
    }
    record.write(content)
    print(json.dumps({"times_as_fast": ratios, "command_line": found["command_line"]}, indent=1))


if __name__ == "__main__":
    flags.run(main, define_flags)
