"""What is done to a trained student: a share of its teacher's weights, a share of its context less.

    P=runs/reproduction/plus; python -m bench.experiments.after_training --runs=$P/000,$P/001,$P/002
    python -m bench.experiments.after_training --runs=playground --row="the student that ships"

The first reads runs of bench.experiments.reproduction, the second the student that ships. Scores
are on scenes of TUNE_SEED, which no student trains on and no headline number uses, refined and not.
An interrupted run resumes. It prints a table.
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
SHARES = ["0/0", "0/0.2", "0.25/0.2", "0.5/0.2", "0.75/0.2", "0.5/0"]


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_list("runs", None, "trained students, all of one recipe", required=True)
    record.define_output("after_training")
    absl_flags.DEFINE_list("shares", SHARES, "pairs to score, in this order")
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
        for pair in FLAGS.shares:
            runs = results["rows"].setdefault(FLAGS.row, {}).setdefault(pair, [])
            if len(runs) > number:
                continue
            teacher_share, context_share = map(float, pair.split("/"))
            model = config.model
            model = dataclasses.replace(
                model,
                encoder=dataclasses.replace(
                    model.encoder, init="teacher", teacher_share=teacher_share
                ),
                head=dataclasses.replace(model.head, context_share=context_share),
            )
            changed = dataclasses.replace(config, model=model)
            scores = {}
            for kind in ("refined", "plain"):
                found = short_runs.score(
                    params, changed, clip, FLAGS.images, _SHORTS, ("",), refined=kind == "refined"
                )
                scores[kind] = {name: found[name] for name in _SHORTS}
            runs.append(scores)
            print(FLAGS.row, pair, scores, flush=True)
            record.write(results)
    print(render_table(results["rows"]))


def render_table(rows: dict[str, dict[str, list[dict]]]) -> str:
    """Render mean and half the range over students as a Markdown table."""
    columns = [(kind, name) for kind in ("refined", "plain") for name in _SHORTS]
    titles = [name + (", unrefined" if kind == "plain" else "") for kind, name in columns]
    lines = [
        f"| students | teacher's share / context's | {' | '.join(titles)} |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for row, pairs in rows.items():
        for pair, runs in pairs.items():
            cells = [render_spread([run[kind][name] for run in runs]) for kind, name in columns]
            lines.append(f"| {row} | {pair} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main, define_flags)
