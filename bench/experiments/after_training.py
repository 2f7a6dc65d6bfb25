"""What is done to a trained student: a share of its teacher's weights, a share of its context less.

    python -m bench.experiments.after_training --runs=runs/reproduction/plus/000,playground

A run is a work directory, or "playground" for the student that ships. Scores are on scenes of
TUNE_SEED, which no student trains on and no headline number uses, refined by the preset. An
interrupted run resumes. It prints a table.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import short_runs
from bench.experiments.short_runs import render_spread
from zeroseg_jax.commands import flags
from zeroseg_jax.inference.model import SHIPPED_STUDENT
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training.checkpoint import load_params

_SHORTS = ("things", "full", "held-out")
# model.encoder.teacher_share, model.head.context_share.
SHARES = (
    (0.0, 0.0), (0.0, 0.1), (0.0, 0.2), (0.0, 0.3),
    (0.2, 0.2), (0.4, 0.2), (0.5, 0.2), (0.6, 0.2), (0.7, 0.2), (0.5, 0.0),
)  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_list("runs", None, "trained students, all of one recipe", required=True)
    record.define_output("after_training")
    absl_flags.DEFINE_string("row", "zeroseg_plus:playground", "name of the students in the table")
    absl_flags.DEFINE_integer("images", 192, "number of tune scenes")


def main(arguments: list[str]) -> None:
    """Score what is not recorded yet; results are written after each run."""
    del arguments
    flags.use_compilation_cache()
    results = record.read_earlier() or {"images": FLAGS.images, "rows": {}}
    if results["images"] != FLAGS.images:
        raise ValueError(f"--output: {FLAGS.output} has other settings; give another.")
    clip = load_teacher("playground")
    for number, run in enumerate(FLAGS.runs):
        params, config, _ = load_params(SHIPPED_STUDENT if run == "playground" else Path(run))
        for teacher_share, context_share in SHARES:
            rows = results["rows"].setdefault(FLAGS.row, {})
            runs = rows.setdefault(f"{teacher_share:g}, {context_share:g}", [])
            if len(runs) > number:
                continue
            model = config.model
            model = dataclasses.replace(
                model,
                encoder=dataclasses.replace(
                    model.encoder, init="teacher", teacher_share=teacher_share
                ),
                head=dataclasses.replace(model.head, context_share=context_share),
            )
            changed = dataclasses.replace(config, model=model)
            scores = short_runs.score(
                params, changed, clip, FLAGS.images, _SHORTS, ("",), refined=True
            )
            runs.append({name: scores[name] for name in _SHORTS})
            print(FLAGS.row, teacher_share, context_share, runs[-1], flush=True)
            record.write(results)
    print(render_table(results["rows"]))


def render_table(rows: dict[str, dict[str, list[dict]]]) -> str:
    """Render mean and half the range over students as a Markdown table."""
    lines = [
        f"| students | teacher's share, context's | {' | '.join(_SHORTS)} | runs |",
        "|---|---|" + "---:|" * (len(_SHORTS) + 1),
    ]
    for row, shares in rows.items():
        for name, runs in shares.items():
            cells = [render_spread([run[short] for run in runs]) for short in _SHORTS]
            lines.append(f"| {row} | {name} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
