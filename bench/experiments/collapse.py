"""Collapse of ZeroSeg's segments: curves over readings of the paper, and scores after training.

    python -m bench.experiments.collapse --workdir=runs/collapse
    python -m bench.experiments.collapse --workdir=runs/collapse --short     the first figure
    python -m bench.experiments.collapse --write_only                        page and figures

Every reading trains on one bank for the same steps, from the base reproduction:faithful:
the paper's three terms on the paper's grouping, no labels. The metrics of every step are recorded.
Scores are on scenes of TUNE_SEED, unrefined. An interrupted run resumes after the last recorded
reading and seed.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import short_runs
from zeroseg_jax.assets.recipes import reproduction
from zeroseg_jax.commands import flags
from zeroseg_jax.commands.flags import use_compilation_cache
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data import files
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher

CURVES = {
    "segment_cosine": "mean cosine between segments",
    "segments_used": "segments used, of 8",
    "distinct_matches": "different matches",
}
STANDARDISED = {"model.head.scores": "standardised"}
STABLE = {**STANDARDISED, "loss.matching_mode": "located"}
# Reading -> overrides of the base, in the order of the runs.
READINGS = {
    "the paper": {},
    "stable": STABLE,
    "standardised scores": STANDARDISED,
    "located matching": {"loss.matching_mode": "located"},
    "standardised scores, coverage": {**STANDARDISED, "loss.matching_mode": "coverage"},
    "initial tokens of deviation 1": {"model.head.token_std": 1.0},
    "a quarter of the rate": {"optim.base_rate": 4e-3},
}
DECISIVE = ("the paper", "stable")
PAGE, PLOT = Path("docs/collapse.md"), Path("docs/images/collapse.png")
END = "<!-- The lines above are written by bench/experiments/collapse.py. -->"


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/collapse", "directory of the bank")
    record.define_output("collapse")
    absl_flags.DEFINE_integer("steps", 80, "training steps of a run")
    absl_flags.DEFINE_integer("images", 48, "number of scored scenes")
    absl_flags.DEFINE_integer("seeds", 3, "number of runs of each decisive reading")
    absl_flags.DEFINE_bool("short", False, "one seed of the decisive readings, in WORKDIR")
    absl_flags.DEFINE_bool("write_only", False, "write page and figure, run nothing")


def main(arguments: list[str]) -> None:
    """Run what is not recorded yet; write the page and the figure."""
    del arguments
    use_compilation_cache()
    workdir = Path(FLAGS.workdir)
    output = workdir / "short.json" if FLAGS.short else Path(FLAGS.output)
    settings = {"steps": FLAGS.steps, "images": FLAGS.images}
    results = record.read_earlier(output) or {**settings, "runs": []}
    if any(results[name] != value for name, value in settings.items()):
        raise ValueError(f"--output: {output} has other settings; give another.")
    if not FLAGS.write_only:
        _run_missing(results, workdir, output)
    place = workdir if FLAGS.short else PLOT.parent
    plot(results["runs"], place / PLOT.name)
    if not FLAGS.short:
        below = PAGE.read_text().split(END, 1)[1] if PAGE.is_file() else "\n"
        files.write_text(PAGE, f"{_HEAD}\n\n{render_table(results['runs'])}\n\n{END}{below}")


def _run_missing(results: dict, workdir: Path, output: Path) -> None:
    clip = load_teacher("playground")
    wanted = [(name, 0) for name in DECISIVE]
    if not FLAGS.short:
        wanted += [(name, seed) for seed in range(1, FLAGS.seeds) for name in DECISIVE]
        wanted += [(name, 0) for name in READINGS if name not in DECISIVE]
    done = {(run["reading"], run["seed"]) for run in results["runs"]}
    for reading, seed in wanted:
        if (reading, seed) in done:
            continue
        config = _configure(READINGS[reading], seed, workdir)
        prepare_bank(config, bank_directory(config, workdir), clip)
        found, params = short_runs.train(config, clip, workdir)
        scores = short_runs.score(params, config, clip, FLAGS.images)
        print(reading, seed, {name: round(value, 1) for name, value in scores.items()}, flush=True)
        results["runs"].append({"reading": reading, "seed": seed, **found, "scores": scores})
        record.write(results, output)


def _configure(overrides: dict, seed: int, workdir: Path) -> Config:
    raw = reproduction.get_config("faithful")
    raw.update_from_flattened_dict(overrides)
    raw.data.bank = str(workdir / "bank")
    raw.optim.steps, raw.run.seed = FLAGS.steps, seed
    return from_mapping(raw.to_dict())


def plot(runs: list[dict], path: Path) -> None:
    """Draw the diagnostics of every step, one curve for each reading, mean over its seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.subplots(1, len(CURVES))
    for reading in READINGS:
        curves = [run["curves"] for run in runs if run["reading"] == reading]
        if not curves:
            continue
        for axis, name in zip(axes, CURVES, strict=True):
            values = np.mean([curve[name] for curve in curves], axis=0)
            width = 2.0 if reading in DECISIVE else 0.9
            axis.plot(range(len(values)), values, label=reading, linewidth=width)
    for axis, label in zip(axes, CURVES.values(), strict=True):
        axis.set(xlabel="training step", ylabel=label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    short_runs.save_figure(figure, path)


def render_table(runs: list[dict]) -> str:
    """Render the last step and the scores of every reading as Markdown."""
    lines = [
        "| reading | seeds | mean cosine | segments used | matches | things | full "
        "| full, named by truth | segments used, whole image |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for reading in READINGS:
        found = [run for run in runs if run["reading"] == reading]
        if not found:
            continue
        cells = [
            short_runs.render_spread([run["curves"]["segment_cosine"][-1] for run in found], 3)
        ]
        # One batch of 16 is noisy: mean of the last ten steps.
        cells += [
            short_runs.render_spread(
                [statistics.fmean(run["curves"][name][-10:]) for run in found], 1
            )
            for name in ("segments_used", "distinct_matches")
        ]
        names = ("things", "full", "full_named_by_truth", "segments_used")
        cells += [
            short_runs.render_spread([run["scores"][name] for run in found], 1) for name in names
        ]
        lines.append(f"| {reading} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


_HEAD = """# Collapse of the segments

On the Playground, the paper's objective makes the segments of an image almost equal within 20
steps. The curves are of training batches. Base: `reproduction:faithful`, an encoder from
scratch, the paper's three terms and grouping, 80 steps of 16 images.

![Diagnostics by training step](images/collapse.png)

The table has the last ten steps, and unrefined scores on 48 tune scenes. mIoU in percent, mean
± half the range over seeds. The mean cosine between an image's views in the teacher is 0.70 (200
scenes), which is how different segments could be. "Named by truth" gives each segment its true
majority class. `stable` is the recipe `zeroseg_stable`: standardised scores and located matching.

`python -m bench.experiments.collapse` runs every reading and writes this part of the page and
[results/collapse.json](results/collapse.json). `--short` redraws the figure with one seed of two
readings."""


if __name__ == "__main__":
    flags.run(main, define_flags)
