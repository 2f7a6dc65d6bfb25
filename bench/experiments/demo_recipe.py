"""Changes of zeroseg_plus:playground, the demo's recipe, over seeds: batch, dense term.

    python -m bench.experiments.demo_recipe --workdir=runs/demo_recipe

Every run trains on the same bank, with as many images as the recipe. Scores are on tune scenes,
refined and not. An interrupted run resumes after the last run in --output. It prints a table.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import short_runs
from bench.experiments.short_runs import render_spread
from zeroseg_jax.assets.recipes import zeroseg_plus
from zeroseg_jax.commands import flags
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.teacher.dense_targets import prepare_dense
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import Teacher, load_teacher

_SHORTS = ("things", "full")
READOUT = "sclip"  # of the dense targets
# Row -> changes of the recipe.
ROWS = {
    "the recipe": {},
    "loss.dense=0.5": {"loss.dense": 0.5, "teacher.readout": READOUT},
    "320 steps of 16 at 7e-4": {
        "optim.batch_global": 16, "optim.steps": 320, "optim.base_rate": 1.12e-2,
    },
    "160 steps of 32 at 1e-3": {
        "optim.batch_global": 32, "optim.steps": 160, "optim.base_rate": 8e-3,
    },
}  # fmt: skip


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/demo_recipe", "directory of the bank")
    record.define_output("demo_recipe")
    absl_flags.DEFINE_list("rows", list(ROWS), "rows to run, in this order")
    absl_flags.DEFINE_list("seeds", ["0", "1", "2"], "random seeds of each row")
    absl_flags.DEFINE_integer("images", 192, "number of tune scenes")


def main(arguments: list[str]) -> None:
    """Train and score what is not recorded yet; results are written after each run."""
    del arguments
    flags.use_compilation_cache()
    results = record.read_earlier() or {"images": FLAGS.images, "rows": {}}
    if results["images"] != FLAGS.images:
        raise ValueError(f"--output: {FLAGS.output} has other settings; give another.")
    clip = load_teacher("playground")
    for seed in map(int, FLAGS.seeds):
        for row in FLAGS.rows:
            runs = results["rows"].setdefault(row, [])
            if any(run["seed"] == seed for run in runs):
                continue
            runs.append({"seed": seed, **_run(_configure(row, seed), clip)})
            print(row, runs[-1], flush=True)
            record.write(results)
    print(render_table(results["rows"]))


def render_table(rows: dict[str, list[dict]]) -> str:
    """Render mean and half the range over seeds as a Markdown table."""
    columns = [(kind, name) for kind in ("refined", "plain") for name in _SHORTS]
    titles = [name + (", unrefined" if kind == "plain" else "") for kind, name in columns]
    lines = [f"| | {' | '.join(titles)} | seeds |", "|---|" + "---:|" * (len(columns) + 1)]
    for row, runs in rows.items():
        cells = [render_spread([run[kind][name] for run in runs]) for kind, name in columns]
        lines.append(f"| {row} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def _run(config: Config, clip: Teacher) -> dict:
    workdir = Path(FLAGS.workdir)
    directory = bank_directory(config, workdir)
    prepare_bank(config, directory, clip)
    if config.loss.dense:
        prepare_dense(config, directory, clip)
    found, params = short_runs.train(config, clip, workdir)
    last = {name: values[-1] for name, values in found["curves"].items()}
    scores = {
        kind: short_runs.score(
            params, config, clip, FLAGS.images, _SHORTS, ("",), refined=kind == "refined"
        )
        for kind in ("plain", "refined")
    }
    return {"seconds": found["seconds"], "last": last, **scores}


def _configure(row: str, seed: int) -> Config:
    raw = zeroseg_plus.get_config("playground")
    # Training alone is compared.
    raw.model.encoder.teacher_share = raw.model.head.context_share = 0.0
    raw.update_from_flattened_dict(ROWS[row])
    raw.data.bank = str(Path(FLAGS.workdir) / "bank")
    raw.run.seed, raw.mesh.data = seed, 1
    return from_mapping(raw.to_dict())


if __name__ == "__main__":
    flags.run(main, define_flags)
