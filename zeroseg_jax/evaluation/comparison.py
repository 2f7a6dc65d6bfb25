"""Runs on one benchmark side by side: differences with intervals, and where they disagree."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing
from zeroseg_jax.evaluation import render as page
from zeroseg_jax.evaluation import report
from zeroseg_jax.evaluation.label_maps import PredictionFolder

_LEVEL = 95


@dataclasses.dataclass(frozen=True)
class Run:
    """What evaluate left in a directory.

    Attributes:
      directory: of the report.
      result: report.json.
      images: names, in order.
      hit, truth, guess: int64 (images, C), pixels that are right, that are of a class, that
        were given to it.
    """

    directory: Path
    result: dict[str, Any]
    images: list[str]
    hit: np.ndarray
    truth: np.ndarray
    guess: np.ndarray


def read_run(directory: str | Path) -> Run:
    """Read a run.

    Raises:
      ValueError: no report there, or files that do not belong together.
    """
    directory = Path(directory)
    for name in ("report.json", "counts.npz"):
        if not (directory / name).is_file():
            raise ValueError(
                f"{directory}: holds no {name}; give directories that zeroseg evaluate wrote."
            )
    try:
        result = json.loads((directory / "report.json").read_text(encoding="utf-8"))
        with np.load(directory / "counts.npz", allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        images = content["images"].tolist()
        owner = np.repeat(np.arange(len(images)), content["lengths"])
        sums = _sum_classes(content, owner, len(images))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{directory}: its report cannot be read ({error}); evaluate again."
        ) from error
    return Run(directory, result, images, *sums)


def _sum_classes(content: dict[str, np.ndarray], owner: np.ndarray, images: int) -> list:
    classes = len(content["classes"])
    truth, guess = np.divmod(content["cells"].astype(np.int64), classes)
    sums = []
    for where, counted in ((truth, truth == guess), (truth, True), (guess, True)):
        table = np.zeros((images, classes), np.int64)
        np.add.at(table, (owner, where), content["counts"] * counted)
        sums.append(table)
    return sums


def check_comparable(runs: list[Run]) -> None:
    """Refuse runs over other images or classes.

    Raises:
      ValueError: names both directories and what differs.
    """
    first = runs[0]
    for other in runs[1:]:
        for field in ("benchmark", "scene_seed", "options", "mean_over"):
            mine, theirs = (run.result.get(field) for run in (first, other))
            if mine != theirs:
                raise ValueError(
                    f"{other.directory}: its {field} is {theirs!r}, that of {first.directory} "
                    f"{mine!r}; only runs on the same images can be compared."
                )
        if first.images != other.images:
            raise ValueError(
                f"{other.directory}: scored {len(other.images)} images, {first.directory} "
                f"{len(first.images)}, and not the same ones; evaluate both on the same."
            )
        if list(first.result["per_class_iou"]) != list(other.result["per_class_iou"]):
            raise ValueError(
                f"{other.directory}: its classes are not those of {first.directory}; evaluate "
                "both with the same benchmark."
            )


def bootstrap(runs: list[Run], draws: int, seed: int) -> list[dict[str, float]]:
    """Compare every run with the first over resampled images.

    Images are drawn with replacement, the same ones for all runs, and each draw's mIoU is
    computed from its sums of pixels, as the score itself is.

    Args:
      runs: the first is the one compared with.
      draws: how many.
      seed: of the draws.

    Returns:
      For each further run: difference in points of mIoU, ends of the 95 % interval, and the
      share of draws in which it is ahead.

    Source: own; Efron and Tibshirani, 1993, percentile interval.
    """
    images = len(runs[0].images)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(images, np.full(images, 1 / images), size=draws)
    whole = np.ones((1, images), np.int64)
    as_zero = runs[0].result["mean_over"] != "classes that occur"
    drawn = [_miou(run, weights, as_zero) for run in runs]
    exact = [_miou(run, whole, as_zero)[0] for run in runs]
    rows = []
    for i in range(1, len(runs)):
        difference = drawn[i] - drawn[0]
        low, high = np.percentile(difference, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
        rows.append(
            {
                "difference": round(100 * float(exact[i] - exact[0]), 2),
                "low": round(100 * float(low), 2),
                "high": round(100 * float(high), 2),
                "ahead_in_draws": round(float((difference > 0).mean()), 4),
            }
        )
    return rows


def _miou(run: Run, weights: np.ndarray, absent_as_zero: bool) -> np.ndarray:
    hit, truth, guess = (weights @ table for table in (run.hit, run.truth, run.guess))
    union = truth + guess - hit
    iou = hit / np.maximum(union, 1)
    if absent_as_zero:
        return iou.mean(axis=1)
    present = union > 0
    return (iou * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def find_differing(runs: list[Run], most: int) -> list[tuple[int, float]]:
    """Find the images on which the runs' saved predictions differ in the most pixels.

    Returns:
      Index and share of pixels that not all runs label alike, most first; empty where a run
      saved no predictions.
    """
    folders = _open_predictions(runs)
    if not folders:
        return []
    shares = []
    for index, name in enumerate(runs[0].images):
        maps = [folder.read(name) for folder in folders]
        unlike = np.zeros(maps[0].shape, bool)
        for other in maps[1:]:
            if other.shape != unlike.shape:
                raise ValueError(f"{name}: the runs' predictions are not of one size.")
            unlike |= maps[0] != other
        shares.append((index, float(unlike.mean())))
    return [pair for pair in sorted(shares, key=lambda s: (-s[1], s[0]))[:most] if pair[1]]


def draw_differing(runs: list[Run], index: int, benchmark: Any) -> Image.Image:
    """Draw the image and its truth where a benchmark is given, and every run's prediction."""
    name = runs[0].images[index]
    maps = [folder.read(name) for folder in _open_predictions(runs)]
    titles = [str(run.directory) for run in runs]
    class_names = list(runs[0].result["per_class_iou"])
    image = truth = None
    if benchmark is not None:
        item = benchmark[index]
        if item["name"] != name:
            raise ValueError(f"{name}: the benchmark has {item['name']} there; is it the same?")
        image, truth = item["image"], item["label"]
    return drawing.draw_side_by_side(
        image, truth, dict(zip(titles, maps, strict=True)), class_names
    )


def _open_predictions(runs: list[Run]) -> list[PredictionFolder]:
    paths = [run.directory / "predictions" for run in runs]
    return [PredictionFolder(path) for path in paths] if all(p.is_dir() for p in paths) else []


def write_tables(runs: list[Run], rows: list[dict[str, float]]) -> tuple[list, list]:
    """Return a table of runs and one of classes, as (head, rows) each."""
    head = ("run", "mIoU", "difference", "95 % interval", "boundary IoU", "pixel accuracy")
    lines = []
    for run, row in zip(runs, [None, *rows], strict=True):
        result = run.result
        against, interval = "", ""
        if row:
            against = f"{row['difference']:+.2f}"
            interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
        lines.append(
            (str(run.directory), result["miou"], against, interval, result["boundary_miou"],
             result["pixel_accuracy"])
        )  # fmt: skip
    class_head = ("class", *(str(run.directory) for run in runs))
    names = runs[0].result["per_class_iou"]
    classes = [(name, *(run.result["per_class_iou"][name] for run in runs)) for name in names]
    return [head, lines], [class_head, classes]


def write_comparison(
    runs: list[Run],
    rows: list[dict[str, float]],
    panels: list[tuple[str, Image.Image]],
    remark: str,
) -> tuple[str, str]:
    """Return compare.md and compare.html."""
    title = f"{runs[0].result['benchmark']}: {len(runs)} runs on {len(runs[0].images)} images"
    scores = [report.score_line(run.result) for run in runs]
    tables = write_tables(runs, rows)
    lines = [f"# {title}", "", remark, ""]
    body = [f"<h1>{page.escape(title)}</h1>", f"<p>{page.escape(remark)}</p>"]
    for head, content in tables:
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for values in content:
            said = ("absent" if v is None else f"{v:.2f}" if isinstance(v, float) else v
                    for v in values)  # fmt: skip
            lines.append("| " + " | ".join(str(v) for v in said) + " |")
        lines.append("")
        body.append(page.write_table(head, content))
    lines += [f"- {score}" for score in scores] + [""]
    body += [f"<p class=line>{page.escape(score)}</p>" for score in scores]
    body += [page.write_figure(name, picture) for name, picture in panels]
    return "\n".join(lines), page.wrap(title, "\n".join(body))
