"""One model on one benchmark under one preset: numbers, and pictures to believe them by."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from PIL import Image

from zeroseg_jax.benchmarks.playground import Playground
from zeroseg_jax.evaluation import refine, report, windows
from zeroseg_jax.evaluation.confusion import Confusion, count_segments, name_by_truth
from zeroseg_jax.evaluation.presets import Preset

_LOG_SECONDS = 5.0


class Segmenter(Protocol):
    """See evaluation.segmenters."""

    native_px: int
    patch_px: int
    score: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def segment_image(
    segmenter: Segmenter, image: np.ndarray, preset: Preset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segment one picture at its own resolution.

    Args:
      segmenter: what scores windows.
      image: uint8 (H, W, 3).
      preset: sizes and resize rule.

    Returns:
      int32 (H, W) classes, float32 (H, W) their scores, and int32 (H, W) segment ids.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    height, width = image.shape[:2]
    short = preset.short_side_px or segmenter.native_px
    window = preset.window_px or short
    stride = preset.stride_px or window // 2
    if window % segmenter.patch_px or window > short:
        raise ValueError(
            f"preset: a window of {window} px must be a multiple of the patch of "
            f"{segmenter.patch_px} px and no larger than the short side of {short} px; "
            "use --set window_px=...,short_side_px=..."
        )
    resized = windows.resize_image(
        image, *windows.resized_size(height, width, short), preset.resize
    )
    scores, ids = windows.slide(resized, window, stride, segmenter.score)
    if preset.pamr_dilations:
        scores = _refine(scores, image, preset)
    labels, best = windows.label_pixels(scores, height, width)
    enlarged = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
    return labels, best, np.asarray(enlarged)


def _refine(scores: np.ndarray, image: np.ndarray, preset: Preset) -> np.ndarray:
    height, width = image.shape[:2]
    if min(height, width) > preset.pamr_short_px:
        height, width = windows.resized_size(height, width, preset.pamr_short_px)
    guide = windows.resize_image(image, height, width, "antialiased")
    enlarged = jax.image.resize(scores, (height, width, scores.shape[-1]), "bilinear")
    refined = refine.refine_scores(
        enlarged, guide, dilations=preset.pamr_dilations, iterations=preset.pamr_iterations
    )
    return np.asarray(refined)


def evaluate(
    segmenter: Segmenter,
    benchmark: Playground,
    preset: Preset,
    *,
    checkpoint: str,
    output: str | Path,
    save_predictions: bool = False,
    pictures: int = 8,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a benchmark and write report.json, report.md and pictures.

    Args:
      segmenter: what scores windows.
      benchmark: images and labels.
      preset: the protocol.
      checkpoint: what was evaluated, for the report.
      output: directory.
      save_predictions: also write one index PNG an image to output/predictions.
      pictures: how many panels to draw.
      log: takes progress lines and the score line.

    Returns:
      What report.json holds.

    Raises:
      ValueError: an image and its mask that do not fit; names the image.
    """
    output = Path(output)
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    if save_predictions:
        (output / "predictions").mkdir(exist_ok=True)
    classes = len(benchmark.class_names)
    confusion, oracle = Confusion(classes), Confusion(classes)
    used = []
    begin = last = time.time()
    for index in range(len(benchmark)):
        item = benchmark[index]
        labels, _, segments = segment_image(segmenter, item["image"], preset)
        confusion.add(item["label"], labels, item["name"])
        oracle.add(item["label"], name_by_truth(segments, item["label"]), item["name"])
        used.append(count_segments(segments))
        if save_predictions:
            save_png(Image.fromarray(labels.astype(np.uint8)),
                     output / "predictions" / f"{item['name']}.png")  # fmt: skip
        if index < pictures:
            panel = report.draw_panel(
                item["image"], item["label"], labels, segments, benchmark.class_names
            )
            save_png(panel, output / "pictures" / f"{item['name']}.png")
        if time.time() - last > _LOG_SECONDS:
            last = time.time()
            rate = (index + 1) / (last - begin)
            left = (len(benchmark) - index - 1) / rate
            log(f"evaluate: {index + 1}/{len(benchmark)} images, ETA {left:.0f} s")
    result = _summarise(confusion, oracle, used, benchmark, preset, checkpoint)
    result["seconds"] = round(time.time() - begin, 2)
    _write_text(output / "report.json", json.dumps(result, indent=1) + "\n")
    _write_text(output / "report.md", report.write_markdown(result))
    log(report.score_line(result))
    return result


def _summarise(confusion, oracle, used, benchmark, preset, checkpoint) -> dict[str, Any]:
    iou = confusion.class_iou()
    return {
        "benchmark": benchmark.name,
        "preset": dataclasses.asdict(preset),
        "checkpoint": checkpoint,
        "miou": round(100 * confusion.miou(), 2),
        "pixel_accuracy": round(100 * confusion.pixel_accuracy(), 2),
        "per_class_iou": {
            name: None if np.isnan(value) else round(100 * float(value), 2)
            for name, value in zip(benchmark.class_names, iou, strict=True)
        },
        "present_classes": confusion.present(),
        "images": len(benchmark),
        "words": [list(names) for names in benchmark.words],
        "prompts": preset.prompts,
        "threshold": preset.threshold,
        "diagnostics": {
            "oracle_naming_miou": round(100 * oracle.miou(), 2),
            "segments_used_per_image": round(float(np.mean(used)), 2),
        },
        "confusion": confusion.matrix.tolist(),
    }


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG aside, then rename."""
    part = path.with_name(path.name + ".part")
    image.save(part, format="PNG")
    os.replace(part, path)


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
