"""Robustness of the vocabulary: the same images under variants of the class names.

Windows are encoded once an image; each variant costs the scoring alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data.files import write_json, write_text
from zeroseg_jax.data.progress import ProgressLog
from zeroseg_jax.evaluation.confusion import Confusion, mean_of_known
from zeroseg_jax.evaluation.measure import percent
from zeroseg_jax.evaluation.name_variants import NameVariant
from zeroseg_jax.evaluation.render import Section, render_html, render_markdown
from zeroseg_jax.inference import batches, guide_image, label_rules, labelling
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Encoded
from zeroseg_jax.inference.segmenters import Segmenter


def measure_robustness(
    segmenter: Segmenter,
    benchmark: Any,
    preset: Preset,
    variants: list[NameVariant],
    embed: Callable[[list[list[str]]], ClassVectors],
    *,
    checkpoint: str,
    output: str | Path,
    batch: int = 8,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a benchmark under every variant; write robustness.json, .md and .html.

    Args:
      segmenter: the model.
      benchmark: see runner.evaluate.
      preset: the protocol.
      variants: from name_variants.list_variants; the first is the names as given.
      embed: class vectors of a variant's names.
      checkpoint: name of the model, for the report.
      output: directory.
      batch: number of windows in flight.
      log: receives progress lines and the result.

    Returns:
      The content of robustness.json.
    """
    classes = len(benchmark.class_names)
    vectors = [embed(variant.names) for variant in variants]
    # Distractors share one more column, which belongs to no class.
    confusions = [Confusion(classes + 1) for _ in variants]
    progress = ProgressLog("robustness", len(benchmark), "images", log)
    for item, image in _encode(segmenter, benchmark, preset, batch):
        guide = guide_image.build_guide(item["image"], preset, image.resized)
        encoded = image.stack(Encoded)
        for variant, rows, confusion in zip(variants, vectors, confusions, strict=True):
            scored = batches.score_encoded(segmenter, encoded, rows, preset)
            merged, rule = batches.merge_windows(segmenter, image.layout, scored, rows, preset)
            if variant.of_image:
                rule = label_rules.forbid(rule, _find_absent(item["label"], rule.class_ids))
            size = item["image"].shape[:2]
            labels = labelling.label_image(merged, size, rule, preset, guide).labels
            confusion.add(item["label"], restore_classes(labels, variant, benchmark), item["name"])
        progress.add()
    result = {
        "benchmark": benchmark.name,
        "checkpoint": checkpoint,
        "preset": preset.name,
        "images": len(benchmark),
        **summarise(variants, [c.class_iou()[:classes] for c in confusions]),
    }
    _write(result, Path(output), benchmark.class_names)
    log(render_summary(result))
    return result


def restore_classes(labels: np.ndarray, variant: NameVariant, benchmark: Any) -> np.ndarray:
    """Return the benchmark's class of each label; distractors become one more class.

    Args:
      labels: int (H, W), lines of the variant's names, after the background if there is one.
      variant: the variant.
      benchmark: any object with class_names and has_background.
    """
    first, classes = int(benchmark.has_background), len(benchmark.class_names)
    lines = first + len(variant.order) + variant.distractors
    table = np.full(lines, classes, np.int32)
    table[:first] = np.arange(first)
    table[first : first + len(variant.order)] = first + np.asarray(variant.order)
    return table[labels]


def summarise(variants: list[NameVariant], ious: list[np.ndarray]) -> dict[str, Any]:
    """Summarise the IoU of each class, float64 (C,), of every variant.

    The spread is the highest minus the lowest mIoU of the variants that name the same classes and
    no other. The worst case is the mean over classes of the lowest IoU under those variants.
    """
    mious = [mean_of_known(iou) for iou in ious]
    alike = [i for i, v in enumerate(variants) if not v.distractors and not v.of_image]
    lowest = np.fmin.reduce([ious[i] for i in alike])
    return {
        "variants": [
            {"variant": v.title, "miou": percent(m), "difference": percent(m - mious[0])}
            for v, m in zip(variants, mious, strict=True)
        ],
        "spread": percent(max(mious[i] for i in alike) - min(mious[i] for i in alike)),
        "worst_variant": variants[min(alike, key=lambda i: mious[i])].title,
        "worst_case_miou": percent(mean_of_known(lowest)),
        "per_class_iou": {
            v.title: [percent(value) for value in iou]
            for v, iou in zip(variants, ious, strict=True)
        },
    }


def render_summary(result: dict[str, Any]) -> str:
    """Render the result in one line."""
    given = result["variants"][0]["miou"]
    return (
        f"{result['benchmark']}: mIoU {given} as given, spread {result['spread']} over names of "
        f"the same classes (worst: {result['worst_variant']}), worst case of each class "
        f"{result['worst_case_miou']}, {result['images']} images, preset {result['preset']}, "
        f"checkpoint {result['checkpoint']}"
    )


def _encode(
    segmenter: Segmenter, benchmark: Any, preset: Preset, batch: int
) -> Iterator[tuple[dict[str, Any], batches.WindowedImage]]:
    items = (benchmark[index] for index in range(len(benchmark)))
    laid_out = (
        batches.resize_and_lay_out(item["image"], preset, segmenter, item=item) for item in items
    )
    for image in batches.run_windows(
        segmenter.encode, laid_out, windows_per_call=segmenter.windows_per_call, batch=batch
    ):
        yield image.item, image


def _find_absent(truth: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Return the classes without a true pixel, bool (classes,); none in an image without truth."""
    classes = int(class_ids.max()) + 1
    counts = np.bincount(truth[truth >= 0], minlength=classes)[:classes]
    return (counts == 0) & bool(counts.any())


def _write(result: dict[str, Any], output: Path, class_names: tuple[str, ...]) -> None:
    write_json(output / "robustness.json", result)
    titles = [row["variant"] for row in result["variants"]]
    ious = result["per_class_iou"]
    sections = [
        Section(
            paragraphs=[render_summary(result)],
            head=("variant", "mIoU", "difference"),
            rows=[tuple(row.values()) for row in result["variants"]],
        ),
        Section(
            "Classes",
            head=("class", *titles),
            rows=[
                (name, *(ious[title][i] for title in titles)) for i, name in enumerate(class_names)
            ],
        ),
    ]
    title = f"{result['benchmark']}: robustness of the vocabulary"
    write_text(output / "robustness.md", render_markdown(title, sections))
    write_text(output / "robustness.html", render_html(title, sections))
