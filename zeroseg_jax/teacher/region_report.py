"""Report of prepared regions: report.json, figures and a summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data import drawing, files, transforms
from zeroseg_jax.data.bank import REGIONS_FOLDER
from zeroseg_jax.data.benchmarks.splits import Split
from zeroseg_jax.data.joined_banks import FusedSource

_FIGURES = 8
_FIGURE_PX = 288


def report_regions(directory: Path, split: Split, log: Callable[[str], None]) -> dict[str, Any]:
    """Write BANK/regions/report.json and figures of the first images, and log a summary.

    Args:
      directory: directory of the bank.
      split: seen and unseen classes.
      log: receiver of the summary.

    Returns:
      The content of report.json.
    """
    source = FusedSource(directory)
    folder = directory / REGIONS_FOLDER
    stats = [source.stats(i) for i in range(len(source))]
    hidden = np.sum([s["hidden_pixels"] for s in stats], axis=0) if split.unseen else []
    overlaps = [value for s in stats for value in s["best_iou"]]
    whole = [value for s in stats for value in s["one_region_iou"]]
    content = {
        "images": len(stats),
        "split": split.name,
        "unseen_pixels_hidden": {
            names[0]: int(n) for names, n in zip(split.unseen_words, hidden, strict=True)
        },
        "images_with_unseen_pixels": sum(any(s["hidden_pixels"]) for s in stats),
        "images_all_annotated": sum(not s["free_tokens"] for s in stats),
        "images_not_annotated": sum(not s["annotated_pixels"] for s in stats),
        "images_with_fewer_tokens_than_seeds": sum(
            0 < s["free_tokens"] < s["seeds"] for s in stats
        ),
        "images_over_regions_max": sum(s["overflow"] > 0 for s in stats),
        "regions_merged_over_regions_max": sum(s["overflow"] for s in stats),
        "tokens_of_dropped_regions": sum(s["dropped_tokens"] for s in stats),
        "regions_per_image": round(float(np.mean([s["regions"] for s in stats])), 3),
        "mean_best_iou": round(float(np.mean(overlaps)), 4) if overlaps else None,
        "mean_best_iou_of_one_region": round(float(np.mean(whole)), 4) if whole else None,
        "unseen_things": len(overlaps),
    }
    files.write_json(folder / "report.json", content)
    for i in range(min(_FIGURES, len(source))):
        figure = draw_regions(source[i], split)
        files.write_png(folder / "pictures" / f"{i:03d}.png", figure)
    _log_summary(content, split, log)
    log(f"regions: figures in {folder / 'pictures'}")
    return content


def _log_summary(content: dict[str, Any], split: Split, log: Callable[[str], None]) -> None:
    log(
        f"regions: {content['regions_per_image']:.2f} an image; "
        f"{content['images_all_annotated']} images fully annotated, "
        f"{content['images_not_annotated']} not annotated; "
        f"{content['regions_merged_over_regions_max']} merged over clip_zss.regions.max_regions"
    )
    if split.unseen:
        log(f"regions: hidden pixels of unseen classes: {content['unseen_pixels_hidden']}")
    if content["unseen_things"]:
        log(
            f"regions: mean best IoU with unseen things {content['mean_best_iou']:.3f} over "
            f"{content['unseen_things']} (all unannotated area as one region: "
            f"{content['mean_best_iou_of_one_region']:.3f})"
        )


def draw_regions(record: dict[str, Any], split: Split) -> np.ndarray:
    """Draw an image beside its overlay of the fused label map, with a legend: uint8 (H, W, 3)."""
    fused = record["fused"]
    seen = len(split.seen)
    names = [words[0] for words in split.seen_words]
    names += [f"region {k + 1}" for k in range(max(int(fused.max()) + 1 - seen, 0))]
    colours = drawing.palette(names or ["nothing"])
    image = transforms.resize(record["image"], _FIGURE_PX, _FIGURE_PX)
    at = np.arange(_FIGURE_PX) * len(fused) // _FIGURE_PX
    labels = fused[at[:, None], at]
    painted = drawing.overlay(image, labels, colours, opacity=0.8)
    both = np.concatenate([image, painted], axis=1)
    shown = [i for i in np.unique(fused) if i >= 0]
    return np.asarray(drawing.add_legend(both, [(names[i], colours[i]) for i in shown]))
