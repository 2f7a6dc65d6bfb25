"""Index of the reports and comparisons below a directory: index.html and index.md, with links."""

from __future__ import annotations

from pathlib import Path

from zeroseg_jax.data.files import read_json, write_text
from zeroseg_jax.evaluation.render import Cell, Link, Section, render_html, render_markdown

Row = tuple[Cell, ...]
_MEASURES = {"miou", "boundary_miou", "images", "preset", "checkpoint"}


def write_index(directory: str | Path) -> int:
    """Write DIRECTORY/index.html and index.md.

    Args:
      directory: directory with reports of `evaluate` and comparisons of `compare` below it.

    Returns:
      The number of reports and comparisons.

    Raises:
      ValueError: there is none, or a file of one is damaged.
    """
    root = Path(directory)
    reports, comparisons = _list_reports(root), _list_comparisons(root)
    count = len(reports) + len(comparisons)
    if not count:
        raise ValueError(f"{root}: no report of zeroseg evaluate is below it; name another folder.")
    sections = [
        Section(
            "Reports" if comparisons else "",
            head=("report", "benchmark", "mIoU", "boundary IoU", "images", "preset", "checkpoint"),
            rows=reports,
        )
    ] * bool(reports)
    sections += [
        Section("Comparisons", head=("comparison", "runs", "mIoU"), rows=comparisons)
    ] * bool(comparisons)
    title = f"Evaluations in {root.resolve().name}"
    write_text(root / "index.md", render_markdown(title, sections))
    write_text(root / "index.html", render_html(title, sections))
    return count


def _list_reports(root: Path) -> list[Row]:
    """List a row for each report, by benchmark, best mIoU first."""
    rows: list[tuple[str, float, str, Row]] = []
    for path in root.rglob("report.json"):
        found = read_json(path, remedy="evaluate again")
        if "benchmark" not in found:
            continue  # the report of a bank's regions
        if missing := _MEASURES - set(found):
            raise ValueError(f"{path}: {min(missing)} is missing; evaluate again.")
        name, miou, preset = found["benchmark"], found["miou"], found["preset"]
        row = (
            _link(root, path.with_suffix(".html")), name, miou, found["boundary_miou"],
            found["images"], preset["name"] if preset else "unknown", found["checkpoint"],
        )  # fmt: skip
        rows.append((name, -(miou or 0.0), str(path), row))
    return [row for *_, row in sorted(rows)]


def _list_comparisons(root: Path) -> list[Row]:
    rows: list[Row] = []
    for path in sorted(root.rglob("compare.json")):
        found = read_json(path, remedy="compare again", fields={"miou": list, "runs": list})
        scores = ", ".join(f"{value:.2f}" for value in found["miou"])
        rows.append((_link(root, path.with_suffix(".html")), ", ".join(found["runs"]), scores))
    return rows


def _link(root: Path, path: Path) -> Link:
    target = path.relative_to(root)
    return Link(target.parent.as_posix(), target.as_posix())
