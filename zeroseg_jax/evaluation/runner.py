"""Evaluation of one model on one benchmark under one preset: metrics and figures.

Threads read, resize, label and measure images while windows of several images are in flight.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing, files
from zeroseg_jax.data.progress import ProgressLog
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.evaluation.measure import ImageCounts, Measurements, measure_image
from zeroseg_jax.evaluation.open_metrics import compare_names
from zeroseg_jax.evaluation.parts import Parts
from zeroseg_jax.evaluation.render import render_html, render_markdown
from zeroseg_jax.evaluation.report import build_sections, render_protocol, render_score_line
from zeroseg_jax.inference import batches, guide_image, labelling, windows
from zeroseg_jax.inference.batches import WindowedImage, run_ahead
from zeroseg_jax.inference.labelling import LabelledImage
from zeroseg_jax.inference.preset_differences import find_differences
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Scored
from zeroseg_jax.inference.segmenters import Segmenter


def segment_image(
    segmenter: Segmenter, image: np.ndarray, classes: ClassVectors, preset: Preset
) -> LabelledImage:
    """Segment one image, uint8 (H, W, 3), at its own size."""
    scored = score_image(segmenter, image, classes, preset)
    return label_windows(segmenter, scored, image, classes, preset)


def score_image(
    segmenter: Segmenter, image: np.ndarray, classes: ClassVectors, preset: Preset
) -> WindowedImage:
    """Resize one image, lay windows over it and score them.

    Args:
      segmenter: the model.
      image: uint8 (H, W, 3).
      classes: class vectors, from class_vectors.embed_class_names.
      preset: the protocol.

    Raises:
      ValueError: sizes that do not fit the patch or each other.
    """
    laid_out = batches.resize_and_lay_out(image, preset, segmenter)
    (scored,) = batches.score_images(segmenter, [laid_out], classes, preset)
    return scored


def label_windows(
    segmenter: Segmenter,
    scored: WindowedImage,
    image: np.ndarray,
    classes: ClassVectors,
    preset: Preset,
) -> LabelledImage:
    """Label an image, uint8 (H, W, 3) at its own size, whose windows are scored."""
    stacked = scored.stack(Scored)
    merged, rule = batches.merge_windows(segmenter, scored.layout, stacked, classes, preset)
    guide = guide_image.build_guide(image, preset, scored.resized)
    return labelling.label_image(merged, image.shape[:2], rule, preset, guide)


def evaluate(
    model: Segmenter | PredictionFolder,
    benchmark: Any,
    preset: Preset,
    *,
    checkpoint: str,
    output: str | Path,
    classes: ClassVectors | None = None,
    class_names: list[list[str]] | None = None,
    unseen: list[int] | None = None,
    batch: int = 8,
    workers: int = 2,
    save_predictions: bool = False,
    panels: int = 8,
    host_index: int = 0,
    host_count: int = 1,
    save_seconds: float = 10.0,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluate a benchmark; write report.json, report.md, report.html, counts.npz and figures.

    Measured images are kept in output/parts until the report is written. The same call again after
    an interruption measures the others; see parts.py.

    Args:
      model: a segmenter, or the label maps of another tool.
      benchmark: name, class_names, words, has_background, and items of image uint8 (H, W, 3),
        label int32 (H, W) with -1 for ignored, and name.
      preset: the protocol.
      checkpoint: name of the model, for the report.
      output: directory.
      classes: class vectors for a segmenter, from class_vectors.embed_class_names.
      class_names: names of each class, where the preset has others than the benchmark.
      unseen: ids of classes for seen, unseen and harmonic means.
      batch: number of windows in flight; changes no prediction.
      workers: number of threads that read, resize, label and measure.
      save_predictions: True writes one index PNG per image to output/predictions.
      panels: number of panels drawn of the first images; 0 draws nothing.
      host_index, host_count: share of the images that this host measures; hosts have one `output`.
        Host 0 waits for the others and writes the report.
      save_seconds: time between two writes of measured images.
      log: receives progress lines and the score line.

    Returns:
      The content of report.json; {} on another host than 0.

    Raises:
      ValueError: the benchmark is empty, or an image and its mask do not fit; names the image.
    """
    if not len(benchmark):
        raise ValueError(f"{benchmark.name}: the split has no image; check --data_dir.")
    output = Path(output)
    for folder in ["pictures"] * bool(panels) + ["predictions"] * save_predictions:
        (output / folder).mkdir(parents=True, exist_ok=True)
    _check_predictions(model, benchmark)
    begin = time.time()
    run = _Run(model, benchmark, preset, classes, output, panels, save_predictions)
    parts = Parts(
        output, run.identify(checkpoint), len(benchmark), host_index=host_index,
        host_count=host_count, save_seconds=save_seconds,
    )  # fmt: skip
    missing = parts.list_missing()
    if done := parts.count():
        log(f"evaluate: {done} of {len(benchmark)} images are measured already")
    progress = ProgressLog("evaluate", len(missing), "images", log)
    try:
        with ThreadPoolExecutor(workers) as pool:
            predicted = run.predict(pool, missing, batch, workers)
            for index, counts in run_ahead(pool, run.measure, predicted, workers):
                parts.add(index, counts)
                progress.add()
    finally:
        parts.flush()
    if host_index:
        log(f"evaluate: the images of host {host_index} are measured; host 0 writes the report")
        return {}
    parts.wait(log)
    measured = Measurements(benchmark)
    for counts in parts.read():
        measured.add(counts)
    result = {
        **measured.summarise(unseen or [], compare_names(classes, benchmark)),
        **run.describe(checkpoint, class_names),
        "batch": batch,
        "seconds": round(time.time() - begin, 2),
    }
    figures = []
    if panels:
        figures = [(title, run.redraw(index)) for title, index in measured.choose_images()]
    measured.write_counts(output / "counts.npz")
    files.write_json(output / "report.json", result)
    sections = build_sections(result, figures)
    files.write_text(output / "report.md", render_markdown(benchmark.name, sections))
    files.write_text(output / "report.html", render_html(benchmark.name, sections))
    parts.remove()
    for line in measured.notes:
        log(f"evaluate: {line}")
    for line in result["differences"]:
        log(f"evaluate: differs from the published protocol: {line}")
    log(f"evaluate: protocol: {render_protocol(result)}")
    log(render_score_line(result))
    log(f"evaluate: report in {output / 'report.html'}")
    return result


def _check_predictions(model: Segmenter | PredictionFolder, benchmark: Any) -> None:
    """Report missing label maps at once, if the benchmark lists its names without reading."""
    names = list(getattr(benchmark, "names", ()))
    if isinstance(model, PredictionFolder):
        missing = model.find_missing(names)
        if missing:
            raise ValueError(
                f"{model.directory}: {missing[0]}.png is missing ({len(missing)} of "
                f"{len(names)} are); every image of the benchmark needs its prediction."
            )


@dataclasses.dataclass(frozen=True)
class _Run:
    """One evaluation; its methods may run in several threads."""

    model: Segmenter | PredictionFolder
    benchmark: Any
    preset: Preset
    classes: ClassVectors | None
    output: Path
    panels: int
    save_predictions: bool

    def identify(self, checkpoint: str) -> dict[str, Any]:
        """Return everything that the measurements of an image depend on."""
        names = list(getattr(self.benchmark, "names", ()))
        return {
            **self.describe(checkpoint, None),
            "benchmark": self.benchmark.name,
            "images": names or len(self.benchmark),
            "seed": getattr(self.benchmark, "seed", None),
            "options": dict(getattr(self.benchmark, "options", {})),
            "files": getattr(self.benchmark, "checksum", int)(),
            "vectors": zlib.crc32(np.asarray(self.classes.vectors).tobytes())
            if self.classes
            else None,
            "weights": self.model.checksum(),
            "saved": [self.save_predictions, self.panels],
        }

    def predict(
        self, pool: ThreadPoolExecutor, indices: list[int], batch: int, workers: int
    ) -> Iterator[Any]:
        """Yield (index, item, scored windows) in order; None for label maps of another tool."""
        if isinstance(self.model, PredictionFolder):
            for index in indices:
                yield index, self.benchmark[index], None
            return
        segmenter = self.model

        def prepare(index: int) -> WindowedImage:
            item = self.benchmark[index]
            return batches.resize_and_lay_out(
                item["image"], self.preset, segmenter, item=(index, item)
            )

        prepared = run_ahead(pool, prepare, indices, workers)
        for scored in batches.score_images(
            segmenter, prepared, self._classes(), self.preset, batch=batch
        ):
            yield *scored.item, scored

    def measure(
        self, predicted: tuple[int, dict[str, Any], WindowedImage | None]
    ) -> tuple[int, ImageCounts]:
        """Label one image, measure it, and write its prediction and panel."""
        index, item, scored = predicted
        labelled = self._label(item, scored)
        counts = measure_image(self.benchmark, item, labelled.labels, labelled.segment_ids)
        if not isinstance(self.model, PredictionFolder):
            short = self.preset.short_side_px or self.model.image_px
            height, width = item["image"].shape[:2]
            counts.stretched = self.preset.window != "whole" and windows.is_stretched(
                height, width, short, self.preset.long_side_px
            )
        if self.save_predictions:
            many = len(self.benchmark.class_names) > 256
            mask = labelled.labels.astype(np.uint16 if many else np.uint8)
            files.write_png(self.output / "predictions" / f"{item['name']}.png", mask)
        if index < self.panels:
            panel = self._draw(item, labelled)
            files.write_png(self.output / "pictures" / f"{item['name']}.png", panel)
        return index, counts

    def redraw(self, index: int) -> Image.Image:
        """Segment an image again and draw its panel."""
        item = self.benchmark[index]
        if isinstance(self.model, PredictionFolder):
            return self._draw(item, self._label(item, None))
        labelled = segment_image(self.model, item["image"], self._classes(), self.preset)
        return self._draw(item, labelled)

    def describe(self, checkpoint: str, class_names: list[list[str]] | None) -> dict[str, Any]:
        """Return what report.json records of model and protocol."""
        if isinstance(self.model, PredictionFolder):
            # The protocol of the other tool is unknown.
            return {"preset": None, "checkpoint": checkpoint, "model": {}, "words": [],
                    "differences": [], "prompts": None, "threshold": None}  # fmt: skip
        described = self.model.describe(self.preset)
        return {
            "preset": dataclasses.asdict(self.preset),
            "checkpoint": checkpoint,
            "model": described,
            "differences": find_differences(
                self.preset, self.benchmark.name, described.get("read_out", "")
            ),
            "words": class_names or [list(names) for names in self.benchmark.words],
            "prompts": self.preset.prompts,
            "threshold": self.preset.threshold,
        }

    def _classes(self) -> ClassVectors:
        if self.classes is None:
            raise ValueError("classes: a segmenter needs the class vectors of its class names.")
        return self.classes

    def _label(self, item: dict[str, Any], scored: WindowedImage | None) -> LabelledImage:
        if isinstance(self.model, PredictionFolder):
            labels = self.model.read(item["name"])
            return LabelledImage(labels, np.ones(labels.shape, np.float32), labels)
        assert scored is not None  # predict scores the windows of every segmenter
        return label_windows(self.model, scored, item["image"], self._classes(), self.preset)

    def _draw(self, item: dict[str, Any], labelled: LabelledImage) -> Image.Image:
        return drawing.draw_panel(
            item["image"], item["label"], labelled.labels, labelled.segment_ids,
            self.benchmark.class_names,
        )  # fmt: skip
