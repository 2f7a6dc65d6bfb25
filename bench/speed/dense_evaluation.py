"""Speed of evaluating a frozen CLIP's read-out against the same pieces in torch: preset sclip.

    python -m bench.speed.dense_evaluation

Both sides take images of VOC's size in memory and end with a confusion matrix: resize to 336 px,
windows of 224 px with stride 112, SCLIP's attention in the last block, mean of overlapping windows,
class scores at the image's size, counts. torch's side is transformers' vision tower with the rest
written out; its windows of an image are one batch, where the public code takes them one by one.
Both have the same random weights of ViT-B/16's size, float32, and the share of pixels with equal
labels is recorded. Sides alternate in one process; medians over rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from absl import flags as absl_flags
from absl.flags import FLAGS
from transformers import CLIPModel

from bench import record
from bench.speed.evaluate import Photos
from bench.speed.first_answer import write_clip
from bench.speed.timing import median_seconds, ratios, time_in_turns
from zeroseg_jax.commands import flags
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.baselines import build_segmenter
from zeroseg_jax.inference.presets import get_preset

_SHORT_PX, _WINDOW_PX, _STRIDE_PX, _PATCH_PX, _SCALE = 336, 224, 112, 16, 40.0
_HEADS, _WIDTH = 12, 768
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_integer("rounds", 5, "number of rounds", lower_bound=1)
    absl_flags.DEFINE_integer("images", 4, "number of images of a round", lower_bound=1)
    record.define_output("dense_evaluation")


def build_torch(directory: Path, text: np.ndarray) -> Callable[[np.ndarray], torch.Tensor]:
    """Return the peer: a function of an image, uint8 (H, W, 3), that returns its labels (H, W)."""
    torch.set_num_threads(os.cpu_count() or 1)
    clip = CLIPModel.from_pretrained(directory).eval()
    vision, last = clip.vision_model, clip.vision_model.encoder.layers[-1]
    rows = torch.from_numpy(text)
    mean, std = (torch.tensor(v)[:, None, None] for v in (_MEAN, _STD))

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (_HEADS, -1)).transpose(1, 2)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        x = vision.pre_layrnorm(vision.embeddings(pixels))
        for layer in vision.encoder.layers[:-1]:
            out = layer(x, None)
            x = out[0] if isinstance(out, tuple) else out
        normed, attention = last.layer_norm1(x), last.self_attn
        q, k, v = (split(p(normed)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        factor = (_WIDTH // _HEADS) ** -0.5
        weights = (q @ q.mT * factor).softmax(-1) + (k @ k.mT * factor).softmax(-1)
        x = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + last.mlp(last.layer_norm2(x))
        found = clip.visual_projection(vision.post_layernorm(x[:, 1:]))
        return torch.nn.functional.normalize(found, dim=-1)

    @torch.inference_mode()
    def label(image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()[None]
        scale = _SHORT_PX / min(image.shape[:2])
        size = tuple(round(side * scale) for side in image.shape[:2])
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear")
        pixels = (pixels / 255 - mean) / std
        areas = [
            (slice(top, top + _WINDOW_PX), slice(left, left + _WINDOW_PX))
            for top in place(size[0]) for left in place(size[1])
        ]  # fmt: skip
        tokens = encode(torch.cat([pixels[(..., *area)] for area in areas]))
        grid = _WINDOW_PX // _PATCH_PX
        logits = (tokens @ rows.T).mT.unflatten(2, (grid, grid))
        logits = torch.nn.functional.interpolate(logits, (_WINDOW_PX,) * 2, mode="bilinear")
        total, count = torch.zeros(len(rows), *size), torch.zeros(size)
        for area, window in zip(areas, logits, strict=True):
            total[(..., *area)] += window
            count[area] += 1
        total = torch.nn.functional.interpolate(
            (total / count)[None], image.shape[:2], mode="bilinear"
        )
        return (_SCALE * total[0]).softmax(0).argmax(0)

    return label


def place(length: int) -> list[int]:
    """Return the first pixels of the windows along a side; the last one ends at the border."""
    steps = max(length - _WINDOW_PX + _STRIDE_PX - 1, 0) // _STRIDE_PX + 1
    return [min(i * _STRIDE_PX, length - _WINDOW_PX) for i in range(steps)]


def main(arguments: list[str]) -> None:
    """Time, compare labels, print and write."""
    del arguments
    preset = get_preset("sclip", "voc20")
    photos = Photos(FLAGS.images)
    # Rectangles of -1 (ignored) and 20 classes without background, as voc20 has them.
    photos.has_background, photos.class_names = False, photos.class_names[1:]
    items = [{**photos[i], "label": photos[i]["label"] - 1} for i in range(len(photos))]
    for item in items:
        np.maximum(item["label"], -1, out=item["label"])
    names = [[name] for name in photos.class_names]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_clip(directory)
        segmenter, classes, _ = build_segmenter(
            "dense:sclip", names, preset, teacher=str(directory)
        )
        rows = np.asarray(classes.vectors)[: len(names)]
        label_torch = build_torch(directory, rows)
    kept: dict[str, list[np.ndarray]] = {}

    def run_torch() -> None:
        counts = np.zeros((len(names),) * 2, np.int64)
        found = [label_torch(item["image"]).numpy() for item in items]
        for item, labels in zip(items, found, strict=True):
            count(counts, item["label"], labels)
        kept["torch"] = found

    def run_jax() -> None:
        counts = np.zeros((len(names),) * 2, np.int64)
        found = []
        for item in items:
            scored = runner.score_image(segmenter, item["image"], classes, preset)
            labelled = runner.label_windows(segmenter, scored, item["image"], classes, preset)
            found.append(np.asarray(labelled.labels))
            count(counts, item["label"], found[-1])
        kept["jax"] = found

    rounds = time_in_turns({"jax": run_jax, "torch": run_torch}, FLAGS.rounds)
    faster = ratios(rounds, "torch", "jax")
    equal = [(a == b).mean() for a, b in zip(kept["jax"], kept["torch"], strict=True)]
    result: dict[str, Any] = {
        "preset": "sclip", "benchmark_words": len(names), "image_px": list(items[0]["image"].shape),
        "torch": torch.__version__, "torch_threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "seconds_an_image": {
            side: round(median_seconds(rounds, side) / len(items), 3) for side in rounds[0]
        },
        "times_as_fast": round(statistics.median(faster), 3),
        "times_as_fast_range": [round(min(faster), 3), round(max(faster), 3)],
        "equal_labels": round(float(np.mean(equal)), 5),
    }  # fmt: skip
    record.write(result)
    print(json.dumps(result, indent=1))


def count(counts: np.ndarray, truth: np.ndarray, labels: np.ndarray) -> None:
    """Add an image to a confusion matrix; -1 is ignored."""
    classes, kept = len(counts), truth >= 0
    pairs = truth[kept] * classes + labels[kept]
    counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


if __name__ == "__main__":
    flags.run(main, define_flags)
