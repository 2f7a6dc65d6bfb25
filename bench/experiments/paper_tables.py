"""Tables 3 to 6 of the paper in small, on a grouping that does not collapse: runs and tables.

    python -m bench.experiments.paper_tables --workdir=runs/tables            every run
    python -m bench.experiments.paper_tables --workdir=runs/tables --short    Table 4, one seed

Rows are the points of configs/reproduction.py. Runs train and score in one process, on one bank.
Scores are mIoU on playground/full, on scenes of TUNE_SEED, unrefined, with the class filter by
z as in the paper. An interrupted run resumes after the last recorded run; a row that two tables
share runs once. Seeds come one after the other, so that an early end leaves whole tables of fewer
seeds. `python -m bench.experiments.reproduction --write_only` writes the page.
"""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import short_runs
from zeroseg_jax.assets.recipes import reproduction
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import Teacher, load_teacher

RESULTS = Path("docs/results/paper_tables.json")
# Most decisive first: the order of the runs.
TABLES = ("table4", "table3", "table5", "table6")
TITLES = {
    "table3": "Table 3: grids of views",
    "table4": "Table 4: losses",
    "table5": "Table 5: share of patches removed",
    "table6": "Table 6: images",
}
LABELS = {
    "table3": ("1x1", "+ 2x2", "+ 3x3", "+ 4x4", "all"),
    "table4": ("base", "+ multi-scale", "+ matching", "both"),
    "table5": ("0 %", "20 %", "40 %", "60 %", "80 %"),
    "table6": ("48", "192", "768"),
}
# The paper's mIoU on VOC, row by row; Table 6 of the paper has other amounts of data, see
# _compare_order.
PAPER = {
    "table3": (21.1, 23.7, 40.2, 32.4, 40.8),
    "table4": (21.1, 28.5, 38.6, 40.8),
    "table5": (35.6, 37.6, 40.4, 40.8, 32.8),
}
# A run of one batch is noisy: diagnostics are means of this number of last steps.
_LAST = 10
# Settings of the base that are recorded beside the runs.
_RECORDED = (
    "model.image_px",
    "model.mask_ratio",
    "model.encoder.init",
    "model.decoder.depth",
    "model.head.scores",
    "model.head.token_std",
    "model.head.shared_projection",
    "loss.matching_mode",
    "teacher.grids",
    "data.images",
    "optim.base_rate",
)


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/tables", "directory of the bank")
    record.define_output("paper_tables")
    absl_flags.DEFINE_list("tables", list(TABLES), "tables to run, in this order")
    absl_flags.DEFINE_integer("steps", 160, "training steps of a run")
    absl_flags.DEFINE_integer("batch", 8, "images of a step; the rate does not depend on it")
    absl_flags.DEFINE_integer("images", 48, "number of scored scenes")
    absl_flags.DEFINE_integer("seeds", len(reproduction.SEEDS), "number of runs of each row")
    absl_flags.DEFINE_bool("short", False, "Table 4 with one seed, recorded in WORKDIR")


def main(arguments: list[str]) -> None:
    """Run what is not recorded yet, and print the tables."""
    del arguments
    use_compilation_cache()
    workdir = Path(FLAGS.workdir)
    output = workdir / "short.json" if FLAGS.short else Path(FLAGS.output)
    settings = {
        "steps": FLAGS.steps,
        "batch": FLAGS.batch,
        "images": FLAGS.images,
        "base": describe_base(),
    }
    results = record.read_earlier(output) or {**settings, "runs": []}
    if any(results.get(name) != value for name, value in settings.items()):
        raise ValueError(f"--output: {output} has other settings; give another.")
    tables, seeds = (["table4"], 1) if FLAGS.short else (FLAGS.tables, FLAGS.seeds)
    clip = load_teacher("playground")
    for seed, table in itertools.product(range(seeds), tables):
        for row in list_rows(table):
            if not find_runs(results, row, seed):
                results["runs"].append(_run(row, seed, clip, workdir))
                record.write(results, output)
    for table in tables:
        print(f"{TITLES[table]}\n\n{render_table(table, results)}\n", flush=True)


def describe_base() -> dict[str, Any]:
    """Return the settings of the base by name, as JSON has them."""
    base = reproduction.get_config("table4")
    values = {name: _read(base, name) for name in _RECORDED}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def list_rows(table: str) -> list[dict[str, Any]]:
    """List the settings of the rows of a table that the base of all tables does not have."""
    base = reproduction.get_config(table)
    rows: list[dict[str, Any]] = []
    for point in reproduction.sweep(table):
        changed = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in point.items()
            if name != "run.seed" and _read(base, name) != value
        }
        if changed not in rows:
            rows.append(changed)
    return rows


def _read(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def find_runs(results: dict, row: dict[str, Any], seed: int | None = None) -> list[dict]:
    """Find the recorded runs of a row, of one seed or of all."""
    return [
        run
        for run in results.get("runs", ())
        if run["row"] == row and seed in (None, run["seed"])
    ]  # fmt: skip


def has_runs(table: str, results: dict) -> bool:
    """Return whether every row of a table has a recorded run."""
    return all(find_runs(results, row) for row in list_rows(table))


def _run(row: dict[str, Any], seed: int, clip: Teacher, workdir: Path) -> dict[str, Any]:
    whole = _configure({}, seed, workdir)
    prepare_bank(whole, bank_directory(whole, workdir), clip)
    config = _configure(row, seed, workdir)
    found, params = short_runs.train(config, clip, workdir)
    scores = short_runs.score(params, config, clip, FLAGS.images, ("full",), ("_by_z",))
    last = {
        name: round(statistics.fmean(found["curves"][name][-_LAST:]), 4)
        for name in short_runs.DIAGNOSTICS
    }
    scores = {name: round(value, 2) for name, value in scores.items()}
    print(row, seed, scores, last, flush=True)
    return {"row": row, "seed": seed, "seconds": found["seconds"], "last": last, "scores": scores}


def _configure(row: dict[str, Any], seed: int, workdir: Path) -> Config:
    raw = reproduction.get_config("table4")
    rate = raw.optim.base_rate * raw.optim.batch_global
    raw.update_from_flattened_dict(
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    )
    raw.data.bank = str(workdir / "bank")
    raw.optim.update(steps=FLAGS.steps, batch_global=FLAGS.batch, base_rate=rate / FLAGS.batch)
    raw.run.seed = seed
    return from_mapping(raw.to_dict())


def render_table(table: str, results: dict) -> str:
    """Render the recorded rows of a table as Markdown, and compare their order."""
    lines = [
        "| | paper, VOC | full | full, named by truth | segments used of 8 | mean cosine | matches "
        "| images seen | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    paper: dict[str, float] = dict(zip(LABELS[table], PAPER.get(table, ()), strict=False))
    means = {}
    for label, row in zip(LABELS[table], list_rows(table), strict=True):
        runs = find_runs(results, row)
        cells = [f"{paper[label]:.1f}" if label in paper else ""]
        for name in ("full_by_z", "full_named_by_truth", "segments_used"):
            cells.append(short_runs.render_spread([run["scores"][name] for run in runs]))
        for name, digits in (("segment_cosine", 3), ("distinct_matches", 1)):
            cells.append(short_runs.render_spread([run["last"][name] for run in runs], digits))
        cells += [f"{results['steps'] * results['batch']}", str(len(runs))]
        lines.append(f"| {label} | {' | '.join(cells)} |")
        means[label] = statistics.fmean(run["scores"]["full_by_z"] for run in runs)
    return "\n".join([*lines, "", _compare_order(paper, means)])


def _compare_order(paper: dict[str, float], ours: dict[str, float]) -> str:
    text = f"Order on full: {' < '.join(sorted(ours, key=ours.__getitem__))}"
    if not paper:  # Table 6: the rows are in the order of their images
        correlation = correlate_ranks(list(range(len(ours))), list(ours.values()))
        return (
            f"{text}. The paper has other amounts of data, and more of it scores higher (40.8 with "
            "ImageNet, 42.9 with CC12M too). Rank correlation with the number of images "
            f"{correlation:.2f}."
        )
    shared = [label for label in paper if label in ours]
    text += f"; in the paper: {' < '.join(sorted(shared, key=paper.__getitem__))}."
    if len(shared) < 3:
        return text
    correlation = correlate_ranks(
        [paper[label] for label in shared], [ours[label] for label in shared]
    )
    return f"{text} Rank correlation {correlation:.2f}."


def plot(table: str, results: dict, path: Path) -> None:
    """Draw the rows of a table, with the range over seeds, beside the paper's numbers."""
    from matplotlib.figure import Figure

    found = [
        (label, [run["scores"]["full_by_z"] for run in find_runs(results, row)])
        for label, row in zip(LABELS[table], list_rows(table), strict=True)
    ]
    labels, values = zip(*[(label, scores) for label, scores in found if scores], strict=True)
    means = [statistics.fmean(scores) for scores in values]
    # The mean of equal numbers may differ from them by rounding.
    reach = [
        (max(mean - min(scores), 0), max(max(scores) - mean, 0))
        for mean, scores in zip(means, values, strict=True)
    ]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(
        labels,
        means,
        yerr=list(zip(*reach, strict=True)),
        marker="o",
        capsize=3,
        label="full, ours",
    )
    if table in PAPER:
        paper = dict(zip(LABELS[table], PAPER[table], strict=True))
        axes.plot(labels, [paper[label] for label in labels], "k:s", label="VOC, the paper")
    axes.set(ylabel="mIoU, %")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    short_runs.save_figure(figure, path)


def correlate_ranks(first: list[float], second: list[float]) -> float:
    """Return Spearman's rank correlation of values without ties."""
    ranks = [[sorted(values).index(value) for value in values] for values in (first, second)]
    return statistics.correlation(*ranks)


if __name__ == "__main__":
    flags.run(main, define_flags)
