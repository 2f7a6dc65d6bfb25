"""Reproduction of the paper's Tables 3 to 6 in small: runs, results, page and plots.

    python -m bench.experiments.reproduction                     every run; hours on 2 cores
    python -m bench.experiments.reproduction --workdir=runs/short --short         in minutes
    python -m bench.experiments.reproduction --write_only        the page from recorded runs

`zeroseg sweep` runs configs/reproduction.py and skips finished points. Tables 3 to 6 are scored on
scenes of TUNE_SEED without PAMR, to measure the student alone. The table beyond the paper is scored
on the evaluation scenes under the unchanged preset. docs/reproduction.md is rewritten down to the
line END; the text below it is kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import jax
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from zeroseg_jax.assets.recipes import reproduction
from zeroseg_jax.commands import flags
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import files
from zeroseg_jax.data.files import write_json
from zeroseg_jax.data.playground.scenes import TUNE_SEED
from zeroseg_jax.evaluation.attribution import CAUSES
from zeroseg_jax.training.inputs import describe_batch
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.plan.costs import count_flops

PAGE, PLOTS = Path("docs/reproduction.md"), Path("docs/images")
END = "<!-- The lines above are written by bench/experiments/reproduction.py. -->"
BENCHMARKS = ("playground/things", "playground/full")
PLUS_BENCHMARKS = (*BENCHMARKS, "playground/held-out")
PLUS = {
    "plus_faithful": "`faithful`: the paper's objective and wiring",
    "plus_regions": "`zeroseg_regions`: free-form regions, an adaptation of CLIP-ZSS",
    "plus": "`zeroseg_plus`",
    "plus_supervised": "the same encoder with every label",
    "plus_supervised_long": "the same, 640 steps",
}
_SPEED = (" GFLOP an image | images/s |", "---:|---:|")
_DIAGNOSTICS = (
    "oracle_naming_miou", "oracle_segments_miou", "segment_purity", "segment_completeness",
    "wrong_pixels",
)  # fmt: skip
READOUTS = {"raw": "the teacher's own patches", "maskclip": "the teacher by MaskCLIP"}
# The paper's mIoU on VOC, point by point.
PAPER = {
    "table3": (21.1, 23.7, 40.2, 32.4, 40.8),
    "table4": (21.1, 28.5, 38.6, 40.8),
    "table5": (35.6, 37.6, 40.4, 40.8, 32.8),
    "table6": (None, None, None),
}
LABELS = {
    "table3": ("1x1", "+ 2x2", "+ 3x3", "+ 4x4", "all"),
    "table4": ("base", "+ multi-scale", "+ matching", "both"),
    "table5": ("0 %", "20 %", "40 %", "60 %", "80 %"),
    "table6": ("48", "192", "768"),
}
_AXES = {
    "table3": "grids of views",
    "table4": "loss terms",
    "table5": "share of patches removed",
    "table6": "training images",
}
TITLES = {
    "table3": "Table 3: grids of views",
    "table4": "Table 4: losses",
    "table5": "Table 5: share of patches removed",
    "table6": "Table 6: images",
}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/reproduction", "directory of the runs")
    record.define_output("reproduction")
    absl_flags.DEFINE_list(
        "variants", list(reproduction.VARIANTS), "variants to run, in this order"
    )
    absl_flags.DEFINE_integer("jobs", 1, "number of runs at a time", lower_bound=1)
    absl_flags.DEFINE_bool("short", False, "run four steps and four scenes, write no page")
    absl_flags.DEFINE_bool("write_only", False, "write the page from recorded results, run nothing")


def main(arguments: list[str]) -> None:
    """Run the unfinished variants, record them, write the page."""
    del arguments
    output = Path(FLAGS.workdir) / "short.json" if FLAGS.short else Path(FLAGS.output)
    results = record.read_earlier(output)
    if not FLAGS.write_only:
        for variant in FLAGS.variants:
            _run(variant)
            results[_key(variant)] = results.get(_key(variant), {}) | {variant: _collect(variant)}
            results = record.write(results, output)
        if set(FLAGS.variants) & PLUS.keys():
            results["plus"] |= {name: _score_readout(name) for name in READOUTS}
            results = record.write(results, output)
    if not FLAGS.short:
        add_operations(results)
        write_json(output, results)
        write_page(results)


def add_operations(results: dict) -> None:
    """Add the GFLOP of a training image to Table 5: exact, unlike its timings."""
    key = jax.random.key(0)
    for point in results.get("table5", {}).get("table5", []):
        config = reproduction.get_config("table5")
        config.update_from_flattened_dict(point["settings"])
        config = from_mapping(config.to_dict())
        objective = METHODS[config.objective].build_abstract(config)
        params = jax.eval_shape(objective.init_params, key)
        gradients = jax.value_and_grad(objective.loss_fn, has_aux=True)
        flops = count_flops(
            lambda params, batch, run=gradients: run(params, batch, key, None),
            params, describe_batch(config),
        )  # fmt: skip
        point["gflop_per_image"] = round(flops / config.optim.batch_global / 1e9, 3)


def _key(variant: str) -> str:
    return "plus" if variant in PLUS else variant.removesuffix("_faithful")


def _run(variant: str) -> None:
    place, recipe = Path(FLAGS.workdir) / variant, f"--config=reproduction:{variant}"
    given = ["--config.optim.steps=4"] if FLAGS.short else []
    # One bank with every grid and image serves all points of all tables.
    bank = Path(FLAGS.workdir) / (f"bank-{variant}" if variant in PLUS else "bank")
    given.append(f"--config.data.bank={bank}")
    base = recipe if variant in PLUS else "--config=reproduction:table4"
    subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "prepare", base, f"--workdir={place}", *given],
        check=True,
    )
    names = PLUS_BENCHMARKS if variant in PLUS else BENCHMARKS
    subprocess.run(
        [
            sys.executable, "-m", "zeroseg_jax", "sweep", recipe, f"--workdir={place}", *given,
            f"--jobs={FLAGS.jobs}", f"--evaluate={','.join(names)}",
            f"--evaluate_with={' '.join(_protocol(variant))}",
        ],
        check=True,
    )  # fmt: skip


def _protocol(variant: str) -> list[str]:
    if variant in PLUS or variant in READOUTS:
        return [f"--images={4 if FLAGS.short else 100}", "--pictures=0"]
    images = 4 if FLAGS.short else 48
    return [f"--images={images}", f"--scene_seed={TUNE_SEED}", "--pictures=0",
            "--set=pamr_dilations="]  # fmt: skip


def _collect(variant: str) -> list[dict]:
    points: dict[str, dict] = {}
    for number, point in enumerate(reproduction.sweep(variant)):
        settings = {name: value for name, value in point.items() if name != "run.seed"}
        place = Path(FLAGS.workdir) / variant / f"{number:03d}"
        record = points.setdefault(json.dumps(settings), {"settings": settings, "miou": {}})
        logged = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("images_per_second", "distinct_matches", "segments_used"):
            if name in logged:
                record.setdefault(name, []).append(round(logged[name], 3))
        for name in PLUS_BENCHMARKS if variant in PLUS else BENCHMARKS:
            report = json.loads((place / "reports" / name / "report.json").read_text())
            short = name.removeprefix("playground/")
            record["miou"].setdefault(short, []).append(report["miou"])
            oracle = record.setdefault("oracle_naming", {}).setdefault(short, [])
            oracle.append(report["diagnostics"]["oracle_naming_miou"])
            if variant in PLUS:
                found = record.setdefault("diagnostics", {}).setdefault(short, [])
                found.append({name: report["diagnostics"][name] for name in _DIAGNOSTICS})
    paper = PAPER.get(_key(variant), [None] * len(points))
    return [{**p, "paper": value} for p, value in zip(points.values(), paper, strict=True)]


def _score_readout(name: str) -> list[dict]:
    record: dict = {"settings": {}, "miou": {}, "paper": None}
    for benchmark in PLUS_BENCHMARKS:
        place = Path(FLAGS.workdir) / "readouts" / name / benchmark
        if not (place / "report.json").is_file():
            subprocess.run(
                [
                    sys.executable, "-m", "zeroseg_jax", "evaluate", f"--model=dense:{name}",
                    f"--benchmark={benchmark}", f"--output={place}", *_protocol(name),
                ],
                check=True,
            )  # fmt: skip
        report = json.loads((place / "report.json").read_text())
        record["miou"][benchmark.removeprefix("playground/")] = [report["miou"]]
    return [record]


def write_page(results: dict) -> None:
    """Write docs/reproduction.md and its plots from the recorded results."""
    parts = [_HEAD]
    for table, title in TITLES.items():
        for variant, points in results.get(table, {}).items():
            parts.append(_render_table(title, variant, points))
    if "plus" in results:
        parts += [_render_plus(results["plus"]), _render_attribution(results["plus"])]
    below = PAGE.read_text().split(END, 1)[1] if PAGE.is_file() else "\n"
    files.write_text(PAGE, "\n\n".join(parts) + f"\n\n{END}" + below)


def _render_table(title: str, variant: str, points: list[dict]) -> str:
    table = variant.removesuffix("_faithful")
    base = "the paper's grouping from scratch" if variant != table else "the Playground's grouping"
    lines = [
        f"## {title}, {base}\n",
        "| | paper, VOC | things | full | full, named by truth | segments used | matches |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    if table == "table5":
        lines[1:] = [line + end for line, end in zip(lines[1:], _SPEED, strict=True)]
    for label, point in zip(LABELS[table], points, strict=True):
        paper = "" if point["paper"] is None else f"{point['paper']:.1f}"
        cells = [point["miou"]["things"], point["miou"]["full"], point["oracle_naming"]["full"]]
        cells += [point["segments_used"], point["distinct_matches"]]
        lines.append(f"| {label} | {paper} | {' | '.join(map(_spread, cells))} |")
        if table == "table5":
            rate = statistics.median(point["images_per_second"])
            lines[-1] += f" {point['gflop_per_image']:.2f} | {rate:.0f} |"
    lines.append("\n" + _compare_order(table, points))
    lines.append(f"\n![{title}](images/reproduction-{variant}.png)")
    _plot(PLOTS / f"reproduction-{variant}.png", table, points)
    return "\n".join(lines)


def _compare_order(table: str, points: list[dict]) -> str:
    paper = [point["paper"] for point in points]
    means = [statistics.fmean(point["miou"]["full"]) for point in points]
    ours = " < ".join(label for _, label in sorted(zip(means, LABELS[table], strict=True)))
    if None in paper:
        return f"Order on full: {ours}. The paper has other amounts of data."
    theirs = " < ".join(label for _, label in sorted(zip(paper, LABELS[table], strict=True)))
    return (
        f"Order in the paper: {theirs}; on full: {ours}. "
        f"Rank correlation {correlate_ranks(paper, means):.2f}."
    )


def correlate_ranks(first: list[float], second: list[float]) -> float:
    """Return Spearman's rank correlation of values without ties."""
    ranks = [[sorted(values).index(value) for value in values] for values in (first, second)]
    return statistics.correlation(*ranks)


def _render_plus(plus: dict) -> str:
    lines = [
        "## Beyond the paper\n",
        "| 160 steps of 32 from 1,024 scenes | things | full | held-out |",
        "|---|---:|---:|---:|",
    ]
    for variant, label in {**READOUTS, **PLUS}.items():
        if variant in plus:
            miou = plus[variant][0]["miou"]
            cells = (miou["things"], miou["full"], miou["held-out"])
            lines.append(f"| {label} | {' | '.join(map(_spread, cells))} |")
    return "\n".join(lines)


def _render_attribution(plus: dict) -> str:
    """Render bounds, purity and wrong pixels by cause of zeroseg_plus and faithful."""
    lines = [
        "## Attribution of errors\n",
        "Bounds: mIoU with the true majority class for each segment, and with the most frequent "
        "predicted class for each true region. Purity and completeness of segments. Wrong pixels "
        "in percent of all, by cause ([evaluation](evaluation.md)).\n",
        "| | mIoU | named by truth | segmented by truth | purity | completeness | "
        "naming | background | boundaries | grouping |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for variant in ("plus_faithful", "plus"):
        if variant not in plus:
            continue
        point = plus[variant][0]
        for name, runs in point["diagnostics"].items():
            cells = [point["miou"][name]]
            cells += [[run[key] for run in runs] for key in _DIAGNOSTICS[:-1]]
            cells += [[run["wrong_pixels"][cause] for run in runs] for cause in CAUSES]
            label = f"`{variant.removeprefix('plus_')}`".replace("`plus`", "`zeroseg_plus`")
            lines.append(f"| {label}, {name} | {' | '.join(map(_spread, cells))} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {(max(values) - min(values)) / 2:.1f}"


def _plot(path: Path, table: str, points: list[dict]) -> None:
    from matplotlib.figure import Figure

    labels = LABELS[table]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for name in ("things", "full"):
        values = [point["miou"][name] for point in points]
        means = [statistics.fmean(v) for v in values]
        # The mean of equal numbers may differ from them by rounding.
        reach = [
            (max(m - min(v), 0), max(max(v) - m, 0)) for m, v in zip(means, values, strict=True)
        ]
        axes.errorbar(labels, means, yerr=list(zip(*reach, strict=True)), marker="o", capsize=3,
                      label=f"{name}, ours")  # fmt: skip
    if points[0]["paper"] is not None:
        paper = [point["paper"] for point in points]
        axes.plot(labels, paper, "k:", marker="s", label="VOC, the paper")
    axes.set(xlabel=_AXES[table], ylabel="mIoU, %")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=220)
    os.replace(part, path)


_HEAD = """# The paper's tables in small

**What these tables can and cannot show.** An audit of the recorded runs found three facts that
decide what they mean.

1. The base of Tables 3 to 6 has clustered grouping. The clustered features are behind a
   stop-gradient, and the patch term that would train their projection is off. The projection stays
   random: every row groups patches in the same untrained way.
2. Without the matching term, the projections of the scored segment embeddings get no gradient. So
   "base" and "+ multi-scale" of Table 4 and "1x1" of Table 3 score untrained projections, and the
   first two differ by the drift of the encoder alone. The score also leaves out z, the feature that
   the multi-scale term trains.
3. The paper's own objective (`faithful`) collapses within 10 steps. The mean cosine between the
   eight segment embeddings of an image is 0.84 at step 0, 0.98 at step 10 and 0.995 at step 80
   (`reproduction:table4_faithful`, one seed). [Curves](collapse.md).

So no order of rows in Tables 3 to 6 is evidence for or against the paper's findings.

`python -m bench.experiments.reproduction` trains every point three times and writes this part of
the page and [results/reproduction.json](results/reproduction.json). `--write_only` writes the page
from recorded runs, `--short` runs every table at four steps. mIoU in percent, mean ± half the range
over three seeds. 80 steps of 16 images (configs/reproduction.py), 48 tune scenes of the Playground,
preset `zeroseg` without PAMR. The paper's numbers are of ViT-B on ImageNet and VOC. "Named by
truth" gives each segment its true majority class, the bound of this grouping. "Matches" is the
number of different views that an image's eight segments match."""


if __name__ == "__main__":
    flags.run(main, define_flags)
