"""Tables and plots of a sweep: mean and standard deviation over seeds, as CSV, Markdown and PNG."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

from zeroseg_jax.data.files import atomic_path, read_json, write_text
from zeroseg_jax.evaluation.render import Cell, render_markdown_table

Point = dict[str, Any]
_SEED = "run.seed"


def collect(workdir: Path, points: dict[int, Point], *, metric: str, against: str) -> str:
    """Write WORKDIR/sweep.csv, sweep.md and, if matplotlib is installed, a plot.

    Args:
      workdir: directory of the sweep; point i is in WORKDIR/00i.
      points: config overrides of each point by its number; all points set the same fields.
      metric: name in the last record of metrics.jsonl, or REPORT/NAME or
        REPORT/diagnostics/NAME of a report.json below the point.
      against: field of the x axis; "" for the first.

    Returns:
      The content of sweep.md.

    Raises:
      ValueError: no point has logged anything, or the metric or field does not exist.
    """
    rows = []
    first = next(iter(points.values()), {})
    for number, point in points.items():
        if metrics := _read_metrics(workdir / f"{number:03d}"):
            rows.append({"point": number, **point, **metrics})
    if not rows:
        raise ValueError(f"--workdir: no point of {workdir} has logged anything; run the sweep.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if metric not in names:
        known = ", ".join(name for name in names if name != "point" and name not in first)
        raise ValueError(f"--metric: no point has {metric!r}; known: {known}.")
    fields = [name for name in first if name != _SEED or against == _SEED] or [_SEED]
    against = against or fields[0]
    if against not in first:
        raise ValueError(f"--against: {against!r} is not swept; known: {', '.join(first)}.")
    write_text(workdir / "sweep.csv", _render_csv(rows, names))
    groups = _group(rows, fields, metric)
    table = _render_table(groups, fields, metric)
    table += f"\n\n{len(rows)} of {len(points)} points."
    write_text(workdir / "sweep.md", table + "\n")
    if importlib.util.find_spec("matplotlib"):
        _plot(workdir / f"sweep-{metric}-{against}.png".replace("/", "-"), groups, metric, against)
    else:
        table += "\n\nNo plot: matplotlib is not installed."
    return table


def _read_metrics(directory: Path) -> dict[str, Any]:
    """Return the last logged record and the numbers of all reports of a point, by name."""
    metrics = _read_last(directory / "metrics.jsonl")
    for report in sorted(directory.rglob("report.json")):
        prefix = report.parent.relative_to(directory).as_posix()
        content = read_json(report, remedy="evaluate again")
        if not isinstance(diagnostics := content.get("diagnostics", {}), dict):
            raise ValueError(f"{report}: diagnostics is no object; evaluate again.")
        content |= {f"diagnostics/{k}": v for k, v in diagnostics.items()}
        metrics |= {f"{prefix}/{k}": v for k, v in content.items() if isinstance(v, int | float)}
    return metrics


def _read_last(path: Path) -> dict[str, Any]:
    """Return the last whole record of a metrics file, {} if it has none.

    A training that runs, or was killed, may leave a line of which only the beginning is there.
    """
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for line in reversed(lines[-2:]):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                return record
    if len(lines) > 1:
        raise ValueError(f"{path}: its last two lines are damaged; train the point again.")
    return {}


def _group(rows: list[dict[str, Any]], fields: list[str], metric: str) -> list[dict[str, Any]]:
    """Return one row for all points that agree in `fields`: the fields, mean, spread and runs."""
    groups: dict[tuple[str, ...], list[float]] = {}
    settings: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if metric in row:
            key = tuple(str(row[name]) for name in fields)
            groups.setdefault(key, []).append(row[metric])
            settings[key] = {name: row[name] for name in fields}
    return [
        {
            **settings[key],
            "mean": statistics.fmean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else math.nan,
            "runs": len(values),
        }
        for key, values in groups.items()
    ]


def _render_table(groups: list[dict[str, Any]], fields: list[str], metric: str) -> str:
    rows: list[list[Cell]] = []
    for group in groups:
        spread = "" if math.isnan(group["spread"]) else f"{group['spread']:.4g}"
        values = [str(group[name]) for name in fields]
        rows.append([*values, f"{group['mean']:.4g}", spread, group["runs"]])
    return render_markdown_table([*fields, metric, "standard deviation", "runs"], rows)


def _render_csv(rows: list[dict[str, Any]], names: list[str]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _plot(path: Path, groups: list[dict[str, Any]], metric: str, against: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[dict[str, Any]]] = {}
    measured = {"mean", "spread", "runs", against}
    for group in groups:
        label = ", ".join(f"{k}={v}" for k, v in group.items() if k not in measured)
        lines.setdefault(label, []).append(group)
    for label, members in lines.items():
        members = sorted(members, key=lambda group: (str(type(group[against])), group[against]))
        xs = [group[against] for group in members]
        xs = xs if all(isinstance(x, int | float) for x in xs) else [str(x) for x in xs]
        spread = [0.0 if math.isnan(group["spread"]) else group["spread"] for group in members]
        means = [group["mean"] for group in members]
        axes.errorbar(xs, means, yerr=spread, marker="o", capsize=3, label=label or None)
    axes.set(xlabel=against, ylabel=metric)
    if any(lines):
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
