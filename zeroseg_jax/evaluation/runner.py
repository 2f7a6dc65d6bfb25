"""One model on one benchmark under one preset: numbers, and pictures to believe them by."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing, files
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.evaluation.measure import ImageCounts, Measurements, measure_image
from zeroseg_jax.evaluation.render import render_html, render_markdown
from zeroseg_jax.evaluation.report import build_sections, render_score_line
from zeroseg_jax.inference import labelling as naming
from zeroseg_jax.inference import windows
from zeroseg_jax.inference.batches import cut_picture, run_ahead, score_windows
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.segmenters import Segmenter

_LOG_SECONDS = 5.0
Model = Segmenter | PredictionFolder


def segment_image(
    segmenter: Segmenter, image: np.ndarray, preset: Preset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segment one picture at its own resolution.

    Args:
      segmenter: what scores windows.
      image: uint8 (H, W, 3).
      preset: the protocol.

    Returns:
      int32 (H, W) classes, float32 (H, W) their scores, and int32 (H, W) segment ids.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    (cut,) = score_windows(segmenter, [cut_picture(image, preset, segmenter)], segmenter.unit)
    return tuple(naming.name_pixels(segmenter, cut, image, preset))


def evaluate(
    segmenter: Model,
    benchmark: Any,
    preset: Preset,
    *,
    checkpoint: str,
    output: str | Path,
    words: list[list[str]] | None = None,
    unseen: list[int] | None = None,
    batch: int = 8,
    workers: int = 2,
    save_predictions: bool = False,
    pictures: int = 8,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score a benchmark; write report.json, report.md, report.html, counts.npz and pictures.

    Args:
      segmenter: a model under this preset, or predictions of another tool.
      benchmark: name, class_names, words, has_background, and items of image uint8 (H, W, 3),
        label int32 (H, W) with -1 for ignored, and name.
      preset: the protocol.
      checkpoint: what was evaluated, for the report.
      output: directory.
      words: of the classes, where the preset has others than the benchmark.
      unseen: ids of classes for seen, unseen and harmonic means.
      batch: windows under way at once; changes no prediction.
      workers: threads that read, resize, put together and count.
      save_predictions: also write one index PNG an image to output/predictions.
      pictures: how many panels to draw of the first images; 0: no picture anywhere.
      log: takes progress lines and the score line.

    Returns:
      What report.json holds.

    Raises:
      ValueError: an empty benchmark, or an image and its mask that do not fit; names the image.
    """
    if not len(benchmark):
        raise ValueError(f"{benchmark.name}: the split holds no image; look at the data directory.")
    output = Path(output)
    for folder in ["pictures"] * bool(pictures) + ["predictions"] * save_predictions:
        (output / folder).mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    _check_predictions(segmenter, benchmark)
    begin = time.time()
    finish = functools.partial(
        _finish, segmenter, benchmark, preset, output, pictures, save_predictions
    )
    with ThreadPoolExecutor(workers) as pool:
        predicted = _predict(pool, segmenter, benchmark, preset, batch, workers)
        measured = _count(benchmark, run_ahead(pool, finish, predicted, workers), log)
    result = {
        **measured.summarise(unseen or []),
        **_describe(segmenter, benchmark, preset, checkpoint, words, batch),
        "seconds": round(time.time() - begin, 2),
    }
    panels = []
    if pictures:
        panels = [
            (title, _redraw(segmenter, benchmark, preset, index))
            for title, index in measured.choose_images()
        ]
    measured.write_counts(output / "counts.npz")
    files.write_json(output / "report.json", result)
    sections = build_sections(result, panels)
    files.write_text(output / "report.md", render_markdown(benchmark.name, sections))
    files.write_text(output / "report.html", render_html(benchmark.name, sections))
    for line in measured.notes:
        log(f"evaluate: {line}")
    log(render_score_line(result))
    return result


def _count(
    benchmark: Any, images: Iterator[ImageCounts], log: Callable[[str], None]
) -> Measurements:
    measured = Measurements(benchmark)
    begin = last = time.time()
    for count, image in enumerate(images, 1):
        measured.add(image)
        if time.time() - last > _LOG_SECONDS:
            last = time.time()
            left = (len(benchmark) - count) * (last - begin) / count
            log(f"evaluate: {count}/{len(benchmark)} images, ETA {left:.0f} s")
    return measured


def _check_predictions(segmenter: Model, benchmark: Any) -> None:
    """Predictions that miss are told all at once, where names are known without reading."""
    names = list(getattr(benchmark, "names", ()))
    if isinstance(segmenter, PredictionFolder):
        missing = segmenter.find_missing(names)
        if missing:
            raise ValueError(
                f"{segmenter.directory}: {missing[0]}.png is missing ({len(missing)} of "
                f"{len(names)} are); every image of the benchmark needs its prediction."
            )


def _predict(
    pool: ThreadPoolExecutor,
    segmenter: Model,
    benchmark: Any,
    preset: Preset,
    batch: int,
    workers: int,
) -> Iterator[Any]:
    """Yield (index, item, cut) in order; cut is None where nothing is run."""
    if isinstance(segmenter, PredictionFolder):
        for index in range(len(benchmark)):
            yield index, benchmark[index], None
        return

    def prepare(index: int) -> Any:
        item = benchmark[index]
        return cut_picture(item["image"], preset, segmenter, (index, item))

    prepared = run_ahead(pool, prepare, range(len(benchmark)), workers)
    for cut in score_windows(segmenter, prepared, batch):
        yield *cut.item, cut


def _finish(
    segmenter: Model,
    benchmark: Any,
    preset: Preset,
    output: Path,
    pictures: int,
    save_predictions: bool,
    predicted: Any,
) -> Any:
    index, item, cut = predicted
    named = _name(segmenter, item, cut, preset)
    counts = measure_image(benchmark, item, named.labels, named.segments)
    if cut is not None:
        short = preset.short_side_px or segmenter.native_px
        counts.stretched = windows.is_stretched(*item["image"].shape[:2], short)
    if save_predictions:
        many = len(benchmark.class_names) > 256
        mask = Image.fromarray(named.labels.astype(np.uint16 if many else np.uint8))
        files.write_png(output / "predictions" / f"{item['name']}.png", mask)
    if index < pictures:
        panel = drawing.draw_panel(
            item["image"], item["label"], named.labels, named.segments, benchmark.class_names
        )
        files.write_png(output / "pictures" / f"{item['name']}.png", panel)
    return counts


def _name(segmenter: Model, item: dict[str, Any], cut: Any, preset: Preset) -> naming.Named:
    if cut is not None:
        return naming.name_pixels(segmenter, cut, item["image"], preset)
    labels = segmenter.read(item["name"])
    return naming.Named(labels, np.ones(labels.shape, np.float32), labels)


def _redraw(segmenter: Model, benchmark: Any, preset: Preset, index: int) -> Image.Image:
    item = benchmark[index]
    if isinstance(segmenter, PredictionFolder):
        named = _name(segmenter, item, None, preset)
    else:
        named = naming.Named(*segment_image(segmenter, item["image"], preset))
    return drawing.draw_panel(
        item["image"], item["label"], named.labels, named.segments, benchmark.class_names
    )


def _describe(
    segmenter: Model,
    benchmark: Any,
    preset: Preset,
    checkpoint: str,
    words: list[list[str]] | None,
    batch: int,
) -> dict[str, Any]:
    # Predictions of another tool were made under a protocol that only their maker knows.
    foreign = isinstance(segmenter, PredictionFolder)
    asked = words if words is not None else [list(names) for names in benchmark.words]
    return {
        "preset": None if foreign else dataclasses.asdict(preset),
        "checkpoint": checkpoint,
        "model": {} if foreign else segmenter.facts,
        "words": [] if foreign else asked,
        "prompts": None if foreign else preset.prompts,
        "threshold": None if foreign else preset.threshold,
        "batch": batch,
    }
