"""Seconds, memory and crumbs of a whole photograph: 448 px and 12 megapixels, and five drawings.

    python -m bench.speed.full_size

`Predictor.segment` and the overlay's drawing with a CLIP of ViT-B/16's size and random weights.
Each size has a process of its own, so that its peak of memory is its own. Times are of warm calls
on photographs that are not cached. Crumbs are connected components under 0.2 % of the image, in
labels of coarse score maps that are drawn over five drawn photographs.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image, ImageDraw
from scipy import ndimage

from bench import record
from bench.speed.first_answer import write_clip
from zeroseg_jax.commands import flags
from zeroseg_jax.inference import guided
from zeroseg_jax.inference.presets import get_preset

SIZES = {"448 px": (448, 448), "12 megapixels": (3024, 4032)}
PHOTOGRAPHS = 5
_SIZE = (256, 352)
_WORDS = "dog, sofa, floor, wall, lamp"
# Of each drawn photograph: colours of thing and ground, and grain of both in pixels (down, across).
_LOOKS = (
    ((150, 118, 84), (84, 88, 92), (1.5, 1.0), (1.0, 6.0)),  # fur on a wet road
    ((126, 122, 114), (64, 72, 66), (4.0, 4.0), (3.0, 0.8)),  # a grey bird in reeds
    ((126, 60, 54), (78, 64, 62), (5.0, 5.0), (3.0, 3.0)),  # a rusty car in a dark hall
    ((146, 146, 90), (98, 132, 64), (2.2, 2.2), (3.6, 1.2)),  # fur on grass
    ((236, 238, 240), (206, 214, 222), (2.5, 2.5), (6.0, 10.0)),  # white on snow
)


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 5, "number of timed calls of each size", lower_bound=1)
    absl_flags.DEFINE_enum("case", "", ["", *SIZES], "size of this process; empty: all")
    absl_flags.DEFINE_string("model", "", "CLIP of --case")
    record.define_output("full_size")


def draw_photograph(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a photograph: textured ground and thing, shading, noise, JPEG.

    Args:
      number: in [0, PHOTOGRAPHS).

    Returns:
      uint8 (H, W, 3), and bool (H, W), where the thing is.
    """
    rng = np.random.default_rng(number)
    height, width = _SIZE
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    radii = np.full(60, 0.3 * height)
    for k in range(2, 7):
        radii *= 1 + rng.normal(0, 0.16 / k) * np.cos(k * angles + rng.uniform(0, 6))
    points = [(width / 2 + 1.3 * r * np.cos(a), height / 2 + r * np.sin(a))
              for r, a in zip(radii, angles, strict=True)]  # fmt: skip
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon(points, fill=255)
    inside = np.asarray(mask) > 127

    def fill(colour: tuple[int, ...], grain: tuple[float, float]) -> np.ndarray:
        noise = ndimage.gaussian_filter(rng.standard_normal((*_SIZE, 1)), (*grain, 0))
        light = ndimage.gaussian_filter(rng.standard_normal((*_SIZE, 1)), (50, 50, 0))
        return np.array(colour) * (1 + 0.24 * noise / noise.std() + 0.12 * light / light.std())

    thing, ground, fine, coarse = _LOOKS[number]
    share = ndimage.gaussian_filter(inside.astype(float), 0.8)[..., None]
    pixels = fill(thing, fine) * share + fill(ground, coarse) * (1 - share)
    pixels = np.clip(pixels + rng.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file)), inside


def label_photograph(scores: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label two classes with the guided filter that photographs get by default."""
    preset = get_preset("frozen", "*")
    return guided.label_patches(
        scores, image, np.arange(2), radius=preset.guided_radius, eps=preset.guided_eps,
        softmax_scale=5.0,
    )  # fmt: skip


def draw_scores(inside: np.ndarray) -> np.ndarray:
    """Draw what a read-out of 24 rows of patches gives: blurred, with noise and six odd tokens.

    Args:
      inside: bool (H, W), where the first class is; the second has the rest.

    Returns:
      float32 (h, w, 2).
    """
    scale = 24 / min(inside.shape)
    grid = tuple(round(side * scale) for side in inside.shape)
    mask = Image.fromarray(inside.astype(np.float32)).resize(grid[::-1], Image.Resampling.BOX)
    share = ndimage.gaussian_filter(np.asarray(mask), 0.6)
    rng = np.random.default_rng(3)
    scores = np.stack([share, 1 - share], axis=-1)
    noise = ndimage.gaussian_filter(rng.standard_normal(scores.shape), (1, 1, 0))
    scores += 0.22 * noise / noise.std()
    for _ in range(6):
        scores[rng.integers(grid[0]), rng.integers(grid[1]), rng.integers(2)] += 0.9
    return scores.astype(np.float32)


def label_drawing(image: np.ndarray, inside: np.ndarray) -> tuple[int, float]:
    """Label an image by drawn scores; return the number of crumbs and the IoU with `inside`."""
    labels, _ = label_photograph(draw_scores(inside), image)
    found = labels == 0
    return count_crumbs(labels), float((inside & found).sum() / (inside | found).sum())


def count_crumbs(labels: np.ndarray) -> int:
    """Count the connected components of int (H, W) under 0.2 % of the image."""
    sizes = [np.bincount(ndimage.label(labels == k)[0].ravel())[1:] for k in np.unique(labels)]
    return int((np.concatenate(sizes) < guided.LEAST_SHARE * labels.size).sum())


def measure(case: str) -> dict[str, Any]:
    """Time one size in this process: seconds of the labels and of the overlay, peak memory."""
    from zeroseg_jax import Predictor

    flags.use_compilation_cache()
    predictor = Predictor.from_pretrained(FLAGS.model, cache_names=False)
    height, width = SIZES[case]
    drawn = Image.fromarray(draw_photograph(0)[0])
    pixels = np.array(drawn.resize((width, height), Image.Resampling.BICUBIC))
    labels, overlay = [], []
    for _ in range(FLAGS.rounds + 1):
        predictor.clear_cache()
        begin = time.perf_counter()
        result = predictor.segment(pixels, _WORDS)
        middle = time.perf_counter()
        result.overlay()
        labels.append(round(middle - begin, 3))
        overlay.append(round(time.perf_counter() - middle, 3))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"first": labels[0], "labels": labels[1:], "overlay": overlay[1:],
            "peak_memory_gb": round(peak, 2)}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Measure each size in a process of its own, and count the crumbs."""
    del arguments
    if FLAGS.case:
        print(json.dumps(measure(FLAGS.case)))
        return
    drawn = [label_drawing(*draw_photograph(i)) for i in range(PHOTOGRAPHS)]
    content: dict[str, Any] = {
        "load_at_the_start": os.getloadavg()[0],
        "crumbs": [crumbs for crumbs, _ in drawn],
        "iou": [round(iou, 3) for _, iou in drawn],
    }
    with tempfile.TemporaryDirectory() as scratch:
        write_clip(Path(scratch))
        for case in SIZES:
            command = [sys.executable, "-m", "bench.speed.full_size", f"--case={case}",
                       f"--model={scratch}", f"--rounds={FLAGS.rounds}"]  # fmt: skip
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            content[case] = json.loads(done.stdout.splitlines()[-1])
            print(case, json.dumps(content[case]), flush=True)
    small, large = (sum(map(min, (content[case]["labels"], content[case]["overlay"])))
                    for case in SIZES)  # fmt: skip
    content["more_seconds"] = round(large - small, 2)
    print(f"12 megapixels take {content['more_seconds']} s more; crumbs {content['crumbs']}")
    record.write({**content, "load_at_the_end": os.getloadavg()[0]})


if __name__ == "__main__":
    flags.run(main, define_flags)
