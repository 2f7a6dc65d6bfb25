"""A sweep: what it runs, that it goes on, what it prints, and the table of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zeroseg_jax.evaluation.sweep_tables import collect

ROOT = Path(__file__).parent.parent
RECIPE = """
from configs import debug


def get_config():
    return debug.get_config()


def sweep():
    {body}
"""
POINTS = [
    {"optim.base_rate": rate, "run.seed": seed} for rate in (0.1, 0.2, 0.4) for seed in (0, 1)
]


def run(tmp_path, *arguments, body="yield {'run.seed': 0}"):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(body=body))
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "sweep", f"--config={recipe}",
         f"--workdir={tmp_path / 'sweep'}", *arguments],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
    )  # fmt: skip


def finish(place, steps):
    (place / "checkpoints" / str(steps)).mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"steps": steps}))


@pytest.mark.slow
def test_runs_what_is_left_and_a_failure_stops_nothing(tmp_path):
    sweep = tmp_path / "sweep"
    finish(sweep / "000", 2)
    body = "yield from ({'run.seed': s, 'data.images': n} for s, n in ((0, 16), (1, 4), (2, 16)))"
    given = ("--config.optim.steps=2", "--config.run.keep_checkpoints=1",
             "--config.model.encoder.depth=1", "--config.model.decoder.depth=1",
             "--evaluate=playground/full", "--evaluate_with=--images=2 --pictures=0")  # fmt: skip
    (sweep / "000" / "reports" / "playground" / "full").mkdir(parents=True)
    (sweep / "000" / "reports" / "playground" / "full" / "report.json").write_text("{}")
    done = run(tmp_path, *given, body=body)
    assert done.returncode == 1, done.stderr
    assert "point 0 is finished" in done.stdout and "2 of 3 points finished" in done.stdout
    # A batch of 8 of 4 images cannot be.
    assert "point 1 failed" in done.stdout and "optim.batch_global" in (
        sweep / "001" / "log.txt").read_text()  # fmt: skip
    manifest = json.loads((sweep / "002" / "manifest.json").read_text())
    assert manifest["config"]["run"]["seed"] == 2 and manifest["steps"] == 2
    assert (sweep / "002" / "checkpoints" / "2").is_dir()
    done = run(tmp_path, *given, "--collect", body=body)
    assert "1 of 3 points" in done.stdout and "| 16 |" in done.stdout
    report = sweep / "002" / "reports" / "playground" / "full" / "report.json"
    assert json.loads(report.read_text())["images"] == 2


@pytest.mark.parametrize("kind", ["commands", "slurm", "jobset"])
def test_prints_what_another_engine_runs(tmp_path, kind):
    body = "yield from ({'run.seed': s} for s in range(3))"
    done = run(tmp_path, f"--print={kind}", "--config.optim.steps=2", body=body)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sweep").exists()
    if kind == "commands":
        lines = done.stdout.splitlines()
        assert len(lines) == 3 and lines[2].endswith("--config.optim.steps=2 --config.run.seed=2")
    elif kind == "slurm":
        assert "#SBATCH --array=0-2" in done.stdout
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    else:
        jobs = yaml.safe_load(done.stdout)["spec"]["replicatedJobs"]
        command = jobs[1]["template"]["spec"]["template"]["spec"]["containers"][0]["command"]
        assert command[:2] == ["sh", "-c"] and command[2].startswith("python -m zeroseg_jax train")
        assert command[2].endswith("--config.run.seed=1")


def test_a_config_may_have_a_sweep_for_each_variant(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from configs import debug\n\n\ndef get_config(variant='a'):\n"
        "    return debug.get_config()\n\n\ndef sweep(variant='a'):\n"
        "    yield {'run.seed': len(variant)}\n"
    )
    for named, seed in (("", 1), (":long", 4)):
        done = subprocess.run(
            [sys.executable, "-m", "zeroseg_jax", "sweep", f"--config={recipe}{named}",
             f"--workdir={tmp_path / 'sweep'}", "--print=commands"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.strip().endswith(f"--config.run.seed={seed}"), done.stderr


def test_points_are_scored_where_benchmarks_are_named(tmp_path):
    done = run(
        tmp_path, "--print=commands", "--evaluate=playground/things,playground/full",
        "--evaluate_with=--images=4 --pictures=0",
    )  # fmt: skip
    train, evaluate = done.stdout.strip().split(" && ")
    place = tmp_path / "sweep" / "000"
    assert "zeroseg_jax train" in train
    names = "playground/things,playground/full"
    assert f"zeroseg_jax evaluate --workdir={place} --benchmark={names} " in evaluate
    assert evaluate.endswith(f"--output={place}/reports --images=4 --pictures=0")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("yield {'run.sed': 1}", "run.sed: no such field; did you mean run.seed?"),
        ("yield {'model.mask_ratio': 2.0}", "model.mask_ratio: 2.0 is outside"),
        ("yield {'name.x': 2.0}", "name.x is no field"),
        ("return iter(())", "yields nothing"),
        ("yield {'run.seed': 1}; yield {'optim.steps': 1}", "every point sets the same fields"),
    ],
)
def test_points_that_cannot_be_are_said_before_anything_runs(tmp_path, body, sentence):
    done = run(tmp_path, body=body)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()


@pytest.fixture
def ran(tmp_path):
    """Write six points as runs leave them; the last has not begun."""
    for number, point in enumerate(POINTS[:-1]):
        place = tmp_path / f"{number:03d}"
        (place / "reports" / "full").mkdir(parents=True)
        loss = 10 * point["optim.base_rate"] + point["run.seed"]
        lines = [{"step": 1, "loss": 99.0}, {"step": 2, "loss": loss}]
        (place / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
        report = {"miou": loss / 2, "benchmark": "full", "diagnostics": {"oracle_miou": loss}}
        (place / "reports" / "full" / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_collect_tells_mean_and_spread_over_seeds(ran):
    table = collect(ran, POINTS, metric="loss", against="")
    assert "| 0.1 | 1.5 | 0.7071 | 2 |" in table and "| 0.4 | 4 |  | 1 |" in table
    assert "5 of 6 points" in table
    rows = (ran / "sweep.csv").read_text().splitlines()
    assert len(rows) == 6 and rows[0].startswith("point,optim.base_rate,run.seed,step,loss")
    table = collect(ran, POINTS, metric="reports/full/miou", against="run.seed")
    assert table.count("\n| 0") == 5
    table = collect(ran, POINTS, metric="reports/full/diagnostics/oracle_miou", against="")
    assert "| 0.1 | 1.5 | 0.7071 | 2 |" in table
    with pytest.raises(ValueError, match="--metric: no point has 'mIoU'; there are step, loss"):
        collect(ran, POINTS, metric="mIoU", against="")
    with pytest.raises(ValueError, match="--against: 'name' is not swept"):
        collect(ran, POINTS, metric="loss", against="name")


def test_collect_plots(ran):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    collect(ran, POINTS, metric="loss", against="optim.base_rate")
    assert (ran / "sweep-loss-optim.base_rate.png").read_bytes().startswith(b"\x89PNG")


def test_collect_of_nothing_is_said(tmp_path):
    with pytest.raises(ValueError, match="no point of the sweep has logged"):
        collect(tmp_path, POINTS, metric="loss", against="")
