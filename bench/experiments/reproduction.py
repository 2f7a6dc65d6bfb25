"""The page of the reproduction: the paper's tables in small, and the comparison beyond them.

    python -m bench.experiments.reproduction                     every run beyond; hours on 2 cores
    python -m bench.experiments.reproduction --workdir=runs/short --short         in minutes
    python -m bench.experiments.reproduction --write_only        the page from recorded runs

`zeroseg sweep` runs the plus variants of configs/reproduction.py and skips finished points, scored
on the evaluation scenes under the unchanged preset. Tables 3 to 6 are run by paper_tables.py.
docs/reproduction.md is rewritten down to the line END; the text below it is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import paper_tables
from bench.experiments.short_runs import render_spread
from zeroseg_jax.assets.recipes import reproduction
from zeroseg_jax.commands import flags
from zeroseg_jax.data import files
from zeroseg_jax.evaluation.attribution import CAUSES
from zeroseg_jax.inference.presets import read_refinement

PAGE, PLOTS = Path("docs/reproduction.md"), Path("docs/images")
END = "<!-- The lines above are written by bench/experiments/reproduction.py. -->"
BENCHMARKS = ("playground/things", "playground/full", "playground/held-out")
PLUS = {
    "plus_faithful": "`faithful`: the paper's objective and wiring",
    "plus_regions": "`zeroseg_regions`: free-form regions, an adaptation of CLIP-ZSS",
    "plus": "`zeroseg_plus`",
    "plus_supervised": "the same encoder with every label",
    "plus_supervised_long": "the same, four times the images",
}
_DIAGNOSTICS = (
    "oracle_naming_miou", "oracle_segments_miou", "segment_purity", "segment_completeness",
    "wrong_pixels",
)  # fmt: skip
READOUTS = {"raw": "the teacher's own patches", "maskclip": "the teacher by MaskCLIP"}


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/reproduction", "directory of the runs")
    record.define_output("reproduction")
    absl_flags.DEFINE_list("variants", list(PLUS), "variants to run, in this order")
    absl_flags.DEFINE_integer("jobs", 1, "number of runs at a time", lower_bound=1)
    absl_flags.DEFINE_bool("short", False, "run four steps and four scenes, write no page")
    absl_flags.DEFINE_bool("write_only", False, "write the page from recorded results, run nothing")


def main(arguments: list[str]) -> None:
    """Run the unfinished variants, record them, write the page and its plots."""
    del arguments
    output = Path(FLAGS.workdir) / "short.json" if FLAGS.short else Path(FLAGS.output)
    results = record.read_earlier(output)
    if not FLAGS.write_only:
        for variant in FLAGS.variants:
            _run(variant)
            results[variant] = _collect(variant)
            results = record.write(results, output)
        results |= {name: _score_readout(name) for name in READOUTS}
        results = record.write(results, output)
    if not FLAGS.short:
        tables = record.read_earlier(paper_tables.RESULTS)
        write_page(results, tables)
        for table in paper_tables.TITLES:
            if paper_tables.has_runs(table, tables):
                paper_tables.plot(table, tables, PLOTS / f"reproduction-{table}.png")


def _run(variant: str) -> None:
    place, recipe = Path(FLAGS.workdir) / variant, f"--config=reproduction:{variant}"
    given = ["--config.optim.steps=4"] if FLAGS.short else []
    given.append(f"--config.data.bank={Path(FLAGS.workdir) / f'bank-{variant}'}")
    subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "prepare", recipe, f"--workdir={place}", *given],
        check=True,
    )
    subprocess.run(
        [
            sys.executable, "-m", "zeroseg_jax", "sweep", recipe, f"--workdir={place}", *given,
            f"--jobs={FLAGS.jobs}", f"--evaluate={','.join(BENCHMARKS)}",
            f"--evaluate_with={' '.join(_protocol())}",
        ],
        check=True,
    )  # fmt: skip


def _protocol() -> list[str]:
    return [f"--images={4 if FLAGS.short else 100}", "--pictures=0"]


def _collect(variant: str) -> dict:
    found: dict = {"miou": {}, "diagnostics": {}}
    for number, _ in enumerate(reproduction.sweep(variant)):
        place = Path(FLAGS.workdir) / variant / f"{number:03d}"
        optim = json.loads((place / "manifest.json").read_text())["config"]["optim"]
        found["training"] = f"{optim['steps']} x {optim['batch_global']}"
        logged = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
        for name in ("images_per_second", "distinct_matches", "segments_used"):
            if name in logged:
                found.setdefault(name, []).append(round(logged[name], 3))
        for name in BENCHMARKS:
            report = json.loads((place / "reports" / name / "report.json").read_text())
            short = name.removeprefix("playground/")
            found["refine"] = read_refinement(report["preset"])
            found["miou"].setdefault(short, []).append(report["miou"])
            found["diagnostics"].setdefault(short, []).append(
                {name: report["diagnostics"][name] for name in _DIAGNOSTICS}
            )
    return found


def _score_readout(name: str) -> dict:
    found: dict = {"miou": {}}
    for benchmark in BENCHMARKS:
        place = Path(FLAGS.workdir) / "readouts" / name / benchmark
        if not (place / "report.json").is_file():
            subprocess.run(
                [
                    sys.executable, "-m", "zeroseg_jax", "evaluate", f"--model=dense:{name}",
                    f"--benchmark={benchmark}", f"--output={place}", *_protocol(),
                ],
                check=True,
            )  # fmt: skip
        report = json.loads((place / "report.json").read_text())
        found["miou"][benchmark.removeprefix("playground/")] = [report["miou"]]
        found["refine"] = read_refinement(report["preset"])
    return found


def write_page(results: dict, tables: dict) -> None:
    """Write docs/reproduction.md from the recorded results of this module and of paper_tables."""
    parts = [_HEAD]
    for table, title in paper_tables.TITLES.items():
        if not paper_tables.has_runs(table, tables):
            continue
        parts.append(
            f"## {title}\n\n{paper_tables.render_table(table, tables)}\n\n"
            f"![{title}](images/reproduction-{table}.png)"
        )
    parts += [_render_plus(results), _render_attribution(results)]
    below = PAGE.read_text().split(END, 1)[1] if PAGE.is_file() else "\n"
    files.write_text(PAGE, "\n\n".join(parts) + f"\n\n{END}" + below)


def _render_plus(plus: dict) -> str:
    lines = [
        "## Beyond the paper\n",
        "100 evaluation scenes, preset `zeroseg`; 1,024 training scenes.\n",
        "| | steps x images | refinement | things | full | held-out |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for variant, label in {**READOUTS, **PLUS}.items():
        if variant in plus:
            miou = plus[variant]["miou"]
            cells = (miou["things"], miou["full"], miou["held-out"])
            row = f"| {label} | {plus[variant].get('training', '')} | {plus[variant]['refine']} "
            lines.append(row + f"| {' | '.join(map(render_spread, cells))} |")
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
        point = plus[variant]
        for name, runs in point["diagnostics"].items():
            cells = [point["miou"][name]]
            cells += [[run[key] for run in runs] for key in _DIAGNOSTICS[:-1]]
            cells += [[run["wrong_pixels"][cause] for run in runs] for cause in CAUSES]
            label = f"`{variant.removeprefix('plus_')}`".replace("`plus`", "`zeroseg_plus`")
            lines.append(f"| {label}, {name} | {' | '.join(map(render_spread, cells))} |")
    return "\n".join(lines)


_HEAD = """# The paper's tables in small

**What these tables can and cannot show.** The paper's own grouping collapses on the Playground: one
segment wins every patch ([curves](collapse.md)). The base of Tables 3 to 6 is the paper's three
terms with four changes ([how it was chosen](#how-the-base-was-chosen)):

- assignment scores are standardised for each segment, so that more segments stay in use;
- a segment is matched to the view that overlaps it most, so that segments get different features;
- g and z share one projection, so that every row trains what is scored;
- the encoder starts as the teacher's tower, in the place of MAE pretraining.

None of the project's own loss terms is used. Images have 72 px, and the pixel decoder two blocks.
Scores have the class filter by z, as in the paper. Below each table is its order and its rank
correlation with the paper's; only Table 4 reaches 0.8 ([reasons](#what-the-tables-contain)).
Earlier tables of this page were on a grouping that no term trained, or on segments with one name
(mean cosine 0.999); they are removed.

`python -m bench.experiments.paper_tables` runs Tables 3 to 6 and writes
`results/paper_tables.json`; `--short` runs Table 4 with one seed.
`python -m bench.experiments.reproduction` runs the rest and writes
[results/reproduction.json](results/reproduction.json); `--write_only` writes this part of the page
from recorded runs. mIoU in percent, mean ± half the range over seeds. The paper's numbers are of
ViT-B on ImageNet and VOC, with about 100 million images seen. Ours are on 48 tune scenes of
playground/full, unrefined. `things` is not scored: runs of this length give background everywhere
there. "Named by truth" gives each segment its true majority class, the bound of this grouping.
"Segments used" counts segments of whole images; "mean cosine" is between an image's eight
segments, and "matches" the number of different views that they match, in the last ten steps."""


if __name__ == "__main__":
    flags.run(main, define_flags)
