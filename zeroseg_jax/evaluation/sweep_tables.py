"""One table of a sweep's points, mean and spread over seeds, and plots."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

from zeroseg_jax.data import files

Point = dict[str, Any]
_SEED = "run.seed"


def collect(workdir: Path, points: list[Point], *, metric: str, against: str) -> str:
    """Write WORKDIR/sweep.csv, sweep.md and, where matplotlib is installed, a plot.

    Args:
      workdir: of the sweep; point i is in WORKDIR/00i.
      points: overrides by dotted name, the same names in each.
      metric: of the last logged record, or REPORT/NAME or REPORT/diagnostics/NAME of a
        report.json below the point.
      against: the field to plot against; empty for the first.

    Returns:
      The Markdown table.

    Raises:
      ValueError: no point has run, or no such metric or field.
    """
    rows = []
    for number, point in enumerate(points):
        if metrics := _read_metrics(workdir / f"{number:03d}"):
            rows.append({"point": number, **point, **metrics})
    if not rows:
        raise ValueError(f"--workdir: no point of the sweep has logged anything in {workdir}.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if metric not in names:
        known = ", ".join(name for name in names if name != "point" and name not in points[0])
        raise ValueError(f"--metric: no point has {metric!r}; there are {known}.")
    fields = [name for name in points[0] if name != _SEED or against == _SEED] or [_SEED]
    against = against or fields[0]
    if against not in points[0]:
        raise ValueError(
            f"--against: {against!r} is not swept; the fields are {', '.join(points[0])}."
        )
    files.write_text(workdir / "sweep.csv", _render_csv(rows, names))
    groups = _group(rows, fields, metric)
    table = _draw_table(groups, fields, metric, f"{len(rows)} of {len(points)} points")
    files.write_text(workdir / "sweep.md", table + "\n")
    if importlib.util.find_spec("matplotlib"):
        _plot(workdir / f"sweep-{metric}-{against}.png".replace("/", "-"), groups, metric, against)
    else:
        table += "\n\nmatplotlib is not installed: no plot."
    return table


def _read_metrics(place: Path) -> dict[str, Any]:
    """Return the last logged record and the numbers of the reports below, by name."""
    path = place / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    metrics = json.loads(lines[-1]) if lines else {}
    for report in sorted(place.rglob("report.json")):
        where = report.parent.relative_to(place).as_posix()
        content = files.read_json(report, remedy="evaluate again")
        content |= {f"diagnostics/{k}": v for k, v in content.get("diagnostics", {}).items()}
        metrics |= {f"{where}/{k}": v for k, v in content.items() if isinstance(v, int | float)}
    return metrics


def _group(
    rows: list[dict[str, Any]], fields: list[str], metric: str
) -> dict[tuple[Any, ...], dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[float]] = {}
    settings: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if metric in row:
            key = tuple(str(row[name]) for name in fields)
            groups.setdefault(key, []).append(row[metric])
            settings[key] = {name: row[name] for name in fields}
    return {
        key: {
            **settings[key],
            "mean": statistics.fmean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else math.nan,
            "runs": len(values),
        }
        for key, values in groups.items()
    }


def _draw_table(groups: dict, fields: list[str], metric: str, caption: str) -> str:
    lines = [
        f"| {' | '.join([*fields, metric, 'spread (one standard deviation)', 'runs'])} |",
        "|" + "---|" * (len(fields) + 3),
    ]
    for group in groups.values():
        spread = "" if math.isnan(group["spread"]) else f"{group['spread']:.4g}"
        values = [str(group[name]) for name in fields]
        cells = [*values, f"{group['mean']:.4g}", spread, str(group["runs"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{caption}."])


def _plot(path: Path, groups: dict, metric: str, against: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[dict[str, Any]]] = {}
    measured = {"mean", "spread", "runs", against}
    for group in groups.values():
        rest = ", ".join(f"{k}={v}" for k, v in group.items() if k not in measured)
        lines.setdefault(rest, []).append(group)
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
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _render_csv(rows: list[dict[str, Any]], names: list[str]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
