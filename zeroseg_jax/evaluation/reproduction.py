"""Published scores beside measured ones: cells that data allow, missing data, estimated times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError
from zeroseg_jax.data.files import read_json, write_json, write_text
from zeroseg_jax.data.progress import render_duration
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.baselines import ModelSource
from zeroseg_jax.evaluation.classes import choose_class_names
from zeroseg_jax.evaluation.published_scores import ROWS, PublishedRow
from zeroseg_jax.evaluation.render import Section, render_html, render_markdown
from zeroseg_jax.inference import windows
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.presets import Preset, get_preset
from zeroseg_jax.training.plan.chips import CHIPS

# Usual size (height, width) and number of images of each split, for estimates.
_SPLITS = {
    "voc21": (375, 500, 1449), "voc20": (375, 500, 1449), "context60": (375, 500, 5104),
    "context59": (375, 500, 5104), "coco_object": (480, 640, 5000),
    "coco_stuff171": (480, 640, 5000), "ade150": (512, 683, 2000),
    "cityscapes19": (1024, 2048, 500),
}  # fmt: skip
_TOWERS = {"tipsv2-l14": (24, 1024, 14)}  # layers, width, patch; ViT-B/16 otherwise
_AFFINITY = {"dino-b8": (12, 768, 8)}
# Operations per second. CPU: docs/results/evaluate_speed.json. Accelerators: a fifth of the
# published bfloat16 rate (own guess).
HARDWARE = {
    "2 CPU cores": 55e9 * 5.36,
    "TPU v5e": CHIPS["v5e"].flops / 5,
    "NVIDIA H100": 989e12 / 5,
}
_HOST_SECONDS = 0.02  # reading, resizing, labelling and measuring an image, from the same record


@dataclasses.dataclass(frozen=True)
class Cell:
    """One published score.

    Attributes:
      key: key of ROWS.
      benchmark: name of the benchmark.
      preset: the row's protocol on it.
      missing: sentence about missing data; "" if there are none.
    """

    key: str
    benchmark: str
    preset: Preset
    missing: str

    @property
    def row(self) -> PublishedRow:
        """Row of the cell."""
        return ROWS[self.key]


def list_cells(
    data_dir: str, keys: list[str], benchmarks: list[str], overrides: dict[str, str]
) -> list[Cell]:
    """List the published cells and what each lacks.

    Args:
      data_dir: folder of the data sets; "" for none.
      keys: keys of ROWS.
      benchmarks: names of benchmarks; empty for all.
      overrides: preset fields of every cell.
    """
    missing = {name: _find_missing(name, data_dir) for name in _SPLITS}
    return [
        Cell(
            key, name, get_preset(ROWS[key].preset, name, {**ROWS[key].overrides, **overrides}),
            missing[name],
        )
        for key in keys
        for name in ROWS[key].scores
        if not benchmarks or name in benchmarks
    ]  # fmt: skip


def _find_missing(name: str, data_dir: str) -> str:
    if not data_dir:
        return f"{name}: give --data_dir, see docs/benchmarks.md"
    try:
        get_benchmark(name, data_dir=data_dir)
    except LayoutError as error:
        return str(error)
    return ""


def estimate_flops(cell: Cell) -> float:
    """Estimate the operations of a cell's towers; labelling and refinement are left out."""
    height, width, images = _SPLITS[cell.benchmark]
    affinity, _, clip = cell.row.model.rpartition("+")
    layers, wide, patch = _TOWERS.get(clip, (12, 768, 16))
    layout = windows.lay_out(height, width, cell.preset, image_px=224, patch_px=patch)
    tall, broad = layout.window
    count = len(layout.areas()) * images
    total = _count_window(layers, wide, tall * broad / patch**2)
    if affinity:
        second, second_width, second_patch = _AFFINITY[affinity]
        total += _count_window(second, second_width, tall * broad / second_patch**2)
    return count * total


def _count_window(layers: int, width: int, tokens: float) -> float:
    # Per token and layer: 24 width^2 for the projections and the MLP, 4 tokens width for attention.
    return layers * tokens * (24 * width**2 + 4 * tokens * width)


def render_plan(cells: list[Cell]) -> list[str]:
    """Render what can be measured and what is missing, with estimated times."""
    lines = []
    for cell in cells:
        state = f"missing: {cell.missing}" if cell.missing else "ready"
        lines.append(f"{cell.row.title} on {cell.benchmark}: {_render_times([cell])}; {state}")
    ready = sum(not cell.missing for cell in cells)
    models = ", ".join(sorted({cell.row.model for cell in cells}))
    lines.append(
        f"{ready} of {len(cells)} cells have their data; all of them: about "
        f"{_render_times(cells)} (estimates without refinement). Models, fetched once: {models}."
    )
    return lines


def _render_times(cells: list[Cell]) -> str:
    flops = sum(map(estimate_flops, cells))
    host = _HOST_SECONDS * sum(_SPLITS[cell.benchmark][2] for cell in cells)
    return ", ".join(
        f"{name} {render_duration(flops / rate + host)}" for name, rate in HARDWARE.items()
    )


def measure_cell(
    cell: Cell,
    source: ModelSource,
    output: Path,
    *,
    data_dir: str,
    images: int = 0,
    batch: int = 8,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluate a cell into OUTPUT/KEY/BENCHMARK, or read its report if it is already there.

    Args:
      cell: a cell whose data are there.
      source: the model.
      output: directory of all cells.
      data_dir: folder of the data sets.
      images: number of images; 0 for all.
      batch: number of windows in flight.
      log: receives progress lines.

    Returns:
      The content of report.json.
    """
    folder = output / cell.key / cell.benchmark
    benchmark = get_benchmark(cell.benchmark, data_dir=data_dir, images=images)
    names, preset = choose_class_names(cell.preset, benchmark)
    path = folder / "report.json"
    if path.is_file():
        found = read_json(path, remedy="delete it")
        # JSON has lists for tuples.
        stored = {k: tuple(v) if isinstance(v, list) else v for k, v in found["preset"].items()}
        same = stored == dataclasses.asdict(preset) and found["images"] == len(benchmark)
        if same and found["checkpoint"] == source.title:
            log(f"reproduce: {cell.row.title} on {cell.benchmark} is measured already")
            return found
    return runner.evaluate(
        source.build(preset), benchmark, preset, checkpoint=source.title, output=folder,
        classes=embed_class_names(source.clip, names, preset), class_names=names, batch=batch,
        panels=0, log=log,
    )  # fmt: skip


def write_table(cells: list[Cell], measured: dict[tuple[str, str], dict], output: Path) -> None:
    """Write table.json, table.md and table.html: published, measured, difference of each cell.

    Args:
      cells: all cells.
      measured: report.json by key and benchmark; cells without one are listed as missing.
      output: directory.
    """
    rows = []
    for cell in cells:
        published = cell.row.scores[cell.benchmark]
        report = measured.get((cell.key, cell.benchmark))
        score = report["miou"] if report else None
        rows.append({
            "method": cell.row.title, "benchmark": cell.benchmark, "published": published,
            "measured": score,
            "difference": None if score is None else round(score - published, 2),
            "images": report["images"] if report else 0,
            "differences": report["differences"] if report else [],
            "missing": cell.missing, "source": cell.row.source,
            "model": report["checkpoint"] if report else cell.row.model,
        })  # fmt: skip
    write_json(output / "table.json", {"cells": rows})
    shown = ("method", "benchmark", "published", "measured", "difference", "images", "source")
    sections = [
        Section(
            paragraphs=["mIoU in percent. Published scores are those of the source."],
            head=shown,
            rows=[tuple(row[name] for name in shown) for row in rows],
        ),
        Section(
            "Known differences",
            head=("method", "benchmark", "differences"),
            rows=[
                (row["method"], row["benchmark"], "; ".join(row["differences"]))
                for row in rows
                if row["differences"]
            ],
        ),
        Section(
            "Missing",
            head=("method", "benchmark", "what is missing"),
            rows=[
                (row["method"], row["benchmark"], row["missing"]) for row in rows if row["missing"]
            ],
        ),
    ]
    sections = [section for section in sections if section.rows]
    write_text(output / "table.md", render_markdown("Published and measured scores", sections))
    write_text(output / "table.html", render_html("Published and measured scores", sections))
