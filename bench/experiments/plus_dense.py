"""The dense term on zeroseg_plus:playground: weights of loss.dense at the demo's length.

    python -m bench.experiments.plus_dense --workdir=runs/plus_dense

Every run trains on the same bank, with targets of one read-out. A weight is chosen by its scores on
tune scenes; evaluation scenes are scored as well, refined and not, for the runs named in
--evaluated. An interrupted run resumes after the last run in --output. It prints a table.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS

from bench import record
from bench.experiments import short_runs
from zeroseg_jax.assets.recipes import zeroseg_plus
from zeroseg_jax.commands import flags
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.data.playground.scenes import EVALUATION_SEED, TUNE_SEED
from zeroseg_jax.teacher.dense_targets import prepare_dense
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import Teacher, load_teacher

_SHORTS = ("things", "full")


def define_flags() -> None:
    """Define the flags."""
    absl_flags.DEFINE_string("workdir", "runs/plus_dense", "directory of the bank")
    record.define_output("plus_dense")
    absl_flags.DEFINE_string("readout", "sclip", "read-out of the targets")
    absl_flags.DEFINE_list("weights", ["0", "0.5"], "values of loss.dense, in this order")
    absl_flags.DEFINE_list("evaluated", [], "weights scored on evaluation scenes too")
    absl_flags.DEFINE_list("seeds", ["0", "1", "2"], "random seeds of each weight")
    absl_flags.DEFINE_integer("tune_images", 192, "number of tune scenes")
    absl_flags.DEFINE_integer("images", 100, "number of evaluation scenes")


def main(arguments: list[str]) -> None:
    """Train and score what is not recorded yet; results are written after each run."""
    del arguments
    flags.use_compilation_cache()
    settings = {name: FLAGS[name].value for name in ("readout", "tune_images", "images")}
    results = record.read_earlier() or {**settings, "runs": []}
    if any(results[name] != value for name, value in settings.items()):
        raise ValueError(f"--output: {FLAGS.output} has other settings; give another.")
    clip = load_teacher("playground")
    done = {(run["weight"], run["seed"]) for run in results["runs"]}
    for seed in map(int, FLAGS.seeds):
        for weight in map(float, FLAGS.weights):
            if (weight, seed) in done:
                continue
            run = _run(weight, seed, clip)
            print({name: value for name, value in run.items() if name != "last"}, flush=True)
            results["runs"].append(run)
            record.write(results)
    print(render_table(results["runs"]))


def render_table(runs: list[dict]) -> str:
    """Render the runs as a Markdown table."""
    columns = [(part, name) for part in ("tune", "evaluation") for name in _SHORTS]
    lines = ["| `loss.dense` | seed | " + " | ".join(" ".join(c) for c in columns) + " |"]
    lines.append("|---:|---:|" + "---:|" * len(columns))
    for run in runs:
        cells = []
        for part, name in columns:
            scores = run.get(part)
            text = f"{scores['plain'][name]:.1f} / {scores['refined'][name]:.1f}" if scores else ""
            cells.append(text)
        lines.append(f"| {run['weight']:g} | {run['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _run(weight: float, seed: int, clip: Teacher) -> dict:
    workdir = Path(FLAGS.workdir)
    config = _configure(weight, seed, workdir)
    directory = bank_directory(config, workdir)
    prepare_bank(config, directory, clip)
    if weight:
        prepare_dense(config, directory, clip)
    found, params = short_runs.train(config, clip, workdir)
    last = {name: values[-1] for name, values in found["curves"].items()}
    run = {"weight": weight, "seed": seed, "seconds": found["seconds"], "last": last}
    sets = {"tune": (TUNE_SEED, FLAGS.tune_images)}
    if weight in map(float, FLAGS.evaluated):
        sets["evaluation"] = (EVALUATION_SEED, FLAGS.images)
    for part, (scene_seed, images) in sets.items():
        run[part] = {
            name: short_runs.score(
                params, config, clip, images, _SHORTS, ("",), scene_seed=scene_seed,
                refined=refined,
            )
            for name, refined in (("plain", False), ("refined", True))
        }  # fmt: skip
    return run


def _configure(weight: float, seed: int, workdir: Path) -> Config:
    raw = zeroseg_plus.get_config("playground")
    raw.data.bank = str(workdir / "bank")
    raw.loss.dense, raw.teacher.readout, raw.run.seed = weight, FLAGS.readout, seed
    raw.mesh.data = 1
    return from_mapping(raw.to_dict())


if __name__ == "__main__":
    flags.run(main, define_flags)
