"""Comparison of runs on one benchmark: scores with intervals, images that differ, the report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.drawing import draw_side_by_side
from zeroseg_jax.data.files import write_json, write_text
from zeroseg_jax.evaluation.bootstrap import LEVEL, Run, bootstrap, check_comparable, read_run
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.evaluation.render import Cell, Section, render_html, render_markdown
from zeroseg_jax.evaluation.report import list_protocol, render_score_line


def compare(
    directories: list[str],
    output: str | Path,
    *,
    draws: int = 2000,
    seed: int = 0,
    images: int = 6,
    data_dir: str = "",
) -> str:
    """Compare runs with the first; write compare.json, compare.md and compare.html.

    Args:
      directories: output directories of `evaluate`, at least two.
      output: directory to write to.
      draws: number of bootstrap resamples.
      seed: random seed of the resamples.
      images: number of images to draw, those that differ in the most pixels first.
      data_dir: directory of the data set, to draw image and truth; the Playground needs none.

    Returns:
      A summary with one line a run.

    Raises:
      ValueError: fewer than two runs, unreadable ones, or runs that are not comparable.
    """
    if len(directories) < 2:
        raise ValueError("compare: give at least two directories that zeroseg evaluate wrote.")
    runs = [read_run(directory) for directory in directories]
    check_comparable(runs)
    rows = bootstrap(runs, draws, seed)
    differing = find_differing(runs, images) if images else []
    benchmark = _open_benchmark(runs[0], data_dir)
    figures = [
        (
            f"{runs[0].images[index]}: {100 * share:.1f} % of the pixels differ",
            draw_differing(runs, index, benchmark),
        )
        for index, share in differing
    ]
    title = f"{runs[0].result['benchmark']}: {len(runs)} runs on {len(runs[0].images)} images"
    remark = (
        f"Differences are to the first run, in points of mIoU. Intervals are {LEVEL} % paired "
        f"bootstrap intervals over {draws} resamples of the images (seed {seed})."
    )
    sections = build_sections(runs, rows, remark, figures)
    write_text(Path(output) / "compare.md", render_markdown(title, sections))
    write_text(Path(output) / "compare.html", render_html(title, sections))
    record = {
        "runs": [str(run.directory) for run in runs],
        "miou": [run.result["miou"] for run in runs],
        "against_first": rows,
        "draws": draws,
        "seed": seed,
        "differing": [[runs[0].images[i], round(share, 6)] for i, share in differing],
    }
    write_json(Path(output) / "compare.json", record)
    lines = [title, remark]
    for run, row in zip(runs, [None, *rows], strict=True):
        more = f"  {row['difference']:+.2f} ({_render_interval(row)})" if row else ""
        lines.append(f"{run.directory}: mIoU {run.result['miou']}{more}")
    if images and not _open_predictions(runs):
        lines.append("compare: no images drawn: a run was made without --save_predictions")
    return "\n".join(lines)


def find_differing(runs: list[Run], most: int) -> list[tuple[int, float]]:
    """Find the images whose saved predictions differ between the runs.

    Args:
      runs: runs.
      most: maximum number of images.

    Returns:
      Index and fraction of differing pixels, largest first; empty if a run has no predictions.

    Raises:
      ValueError: the predictions of an image differ in size.
    """
    folders = _open_predictions(runs)
    if not folders:
        return []
    shares = []
    for index, name in enumerate(runs[0].images):
        first, *others = (folder.read(name) for folder in folders)
        if any(other.shape != first.shape for other in others):
            raise ValueError(f"{name}: the runs' predictions differ in size; evaluate again.")
        unlike = np.any([other != first for other in others], axis=0)
        shares.append((index, float(unlike.mean())))
    return [pair for pair in sorted(shares, key=lambda s: (-s[1], s[0]))[:most] if pair[1]]


def draw_differing(runs: list[Run], index: int, benchmark: Any) -> Image.Image:
    """Draw the prediction of every run, with image and truth if a benchmark is given.

    Args:
      runs: runs with saved predictions.
      index: index of the image.
      benchmark: benchmark of the runs, or None.

    Raises:
      ValueError: the benchmark has another image at this index.
    """
    name = runs[0].images[index]
    maps = {
        title: folder.read(name)
        for title, folder in zip(name_runs(runs), _open_predictions(runs), strict=True)
    }
    image = truth = None
    if benchmark is not None:
        item = benchmark[index]
        if item["name"] != name:
            raise ValueError(
                f"{name}: the benchmark has {item['name']} at index {index}; give the data set "
                "that the runs scored."
            )
        image, truth = item["image"], item["label"]
    return draw_side_by_side(image, truth, maps, list(runs[0].result["per_class_iou"]))


def _open_benchmark(run: Run, data_dir: str) -> Any:
    result = run.result
    name, images = result["benchmark"], result["images"]
    if name.startswith("playground/"):
        return get_benchmark(name, images=images, seed=result["scene_seed"])
    if data_dir:
        return get_benchmark(name, images=images, data_dir=data_dir, **result["options"])
    return None


def _open_predictions(runs: list[Run]) -> list[PredictionFolder]:
    paths = [run.directory / "predictions" for run in runs]
    return [PredictionFolder(path) for path in paths] if all(p.is_dir() for p in paths) else []


def build_sections(
    runs: list[Run],
    rows: list[dict[str, float]],
    remark: str,
    figures: list[tuple[str, Image.Image]],
) -> list[Section]:
    """Arrange a comparison for compare.md and compare.html.

    Args:
      runs: runs; all are compared with the first.
      rows: result of bootstrap.
      remark: sentence on how to read the differences.
      figures: captions and images.
    """
    titles = name_runs(runs)
    scores: list[tuple[Cell, ...]] = []
    for title, run, row in zip(titles, runs, [None, *rows], strict=True):
        difference = f"{row['difference']:+.2f}" if row else ""
        interval = _render_interval(row) if row else ""
        measures = (run.result[name] for name in ("boundary_miou", "pixel_accuracy"))
        scores.append((title, run.result["miou"], difference, interval, *measures))
    head = ("run", "mIoU", "difference", f"{LEVEL} % interval", "boundary IoU", "pixel accuracy")
    classes = [
        (name, *(run.result["per_class_iou"][name] for run in runs))
        for name in runs[0].result["per_class_iou"]
    ]
    protocols = [dict(list_protocol(run.result)) for run in runs]
    settings = [
        (name, *(protocol.get(name, "unknown") for protocol in protocols))
        for name in dict.fromkeys(name for protocol in protocols for name in protocol)
    ]
    return [
        Section(paragraphs=[remark], head=head, rows=scores),
        Section("Images", figures=figures),
        Section("Classes", head=("class", *titles), rows=classes),
        Section(
            "Protocols",
            paragraphs=[render_score_line(run.result) for run in runs],
            head=("setting", *titles) if settings else (),
            rows=settings,
        ),
        Section(
            "Runs",
            head=("run", "directory"),
            rows=[(title, str(run.directory)) for title, run in zip(titles, runs, strict=True)],
        ),
    ]


def name_runs(runs: list[Run]) -> list[str]:
    """Return a short name of each run: its directory below the folder that holds all of them."""
    paths = [Path(run.directory).resolve() for run in runs]
    common = Path(os.path.commonpath(paths))
    if common in paths:  # equal, or one inside another
        return [str(run.directory) for run in runs]
    return [str(path.relative_to(common)) for path in paths]


def _render_interval(row: dict[str, float]) -> str:
    return f"{row['low']:+.2f} to {row['high']:+.2f}"
