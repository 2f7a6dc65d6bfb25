"""Sweep: the commands of each point, resumption, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.compiling import QUICK
from zeroseg_jax.assets.recipes import debug
from zeroseg_jax.config import from_mapping, to_mapping
from zeroseg_jax.evaluation import sweep_points

ROOT = Path(__file__).parents[2]
RECIPE = """
from zeroseg_jax.assets.recipes import debug


def get_config():
    return debug.get_config()


def sweep():
    {body}
"""


def run(tmp_path, *arguments, body="yield {'run.seed': 0}"):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(body=body))
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "sweep", f"--config={recipe}",
         f"--workdir={tmp_path / 'sweep'}", *arguments],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": QUICK},
    )  # fmt: skip


def finish(place, steps, config):
    (place / "checkpoints" / str(steps)).mkdir(parents=True)
    manifest = {"config": config, "steps": steps}
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.slow
def test_runs_what_is_left_and_a_failure_stops_nothing(tmp_path):
    sweep = tmp_path / "sweep"
    body = "yield from ({'run.seed': s, 'data.images': n} for s, n in ((0, 16), (1, 4), (2, 16)))"
    given = ("--config.optim.steps=2", "--config.run.keep_checkpoints=1",
             "--config.model.encoder.depth=1", "--config.model.decoder.depth=1",
             "--evaluate=playground/full", "--evaluate_with=--images=2 --pictures=0")  # fmt: skip
    config = debug.get_config()
    config.optim.steps, config.data.images = 2, 16
    config.model.encoder.depth = config.model.decoder.depth = 1
    finish(sweep / "000", 2, to_mapping(from_mapping(config.to_dict())))
    report = sweep / "000" / "reports" / "playground" / "full" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": "000 at step 2"}))
    flags = {"evaluate": "playground/full", "evaluate_with": "--images=2 --pictures=0"}
    sweep_points.record_evaluation(sweep / "000", flags)
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


@pytest.mark.slow
def test_a_stopped_sweep_resumes_and_an_edited_one_trains_again(tmp_path):
    sweep = tmp_path / "sweep"
    given = ("--config.optim.steps=40", "--config.data.images=16",
             "--config.run.keep_checkpoints=1",
             "--config.model.encoder.depth=1", "--config.model.decoder.depth=1",
             "--evaluate=playground/full", "--evaluate_with=--images=2 --pictures=0")  # fmt: skip
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(body="yield {'run.seed': 0}"))
    with subprocess.Popen(
        [sys.executable, "-m", "zeroseg_jax", "sweep", f"--config={recipe}", f"--workdir={sweep}",
         *given], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not (sweep / "000" / "metrics.jsonl").is_file():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 143 and output.endswith("run the same command again\n"), output
    assert "asked to stop, saved step" in (sweep / "000" / "log.txt").read_text()
    assert not (sweep / "000" / "reports").exists()
    done = run(tmp_path, *given)
    assert done.returncode == 0 and "1 of 1 points finished" in done.stdout, done.stderr
    report = sweep / "000" / "reports" / "playground" / "full" / "report.json"
    assert json.loads(report.read_text())["checkpoint"].endswith("at step 40")

    done = run(tmp_path, *given, "--collect", body="yield {'run.seed': 5}")
    assert done.returncode == 2 and "no point of" in done.stderr
    done = run(tmp_path, *given, body="yield {'run.seed': 5}")
    assert done.returncode == 0 and "point 0 has other settings" in done.stdout
    assert json.loads((sweep / "000" / "manifest.json").read_text())["config"]["run"]["seed"] == 5
    assert (sweep / "000.before1" / "reports").is_dir()


def test_prints_one_shell_line_per_point(tmp_path):
    body = "yield from ({'run.seed': s} for s in range(3))"
    done = run(tmp_path, "--print", "--config.optim.steps=2", body=body)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sweep").exists()
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[2].endswith("--config.optim.steps=2 --config.run.seed=2")
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_a_config_may_have_a_sweep_for_each_variant(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from zeroseg_jax.assets.recipes import debug\n\n\ndef get_config(variant='a'):\n"
        "    return debug.get_config()\n\n\ndef sweep(variant='a'):\n"
        "    yield {'run.seed': len(variant)}\n"
    )
    for named, seed in (("", 1), (":long", 4)):
        done = subprocess.run(
            [sys.executable, "-m", "zeroseg_jax", "sweep", f"--config={recipe}{named}",
             f"--workdir={tmp_path / 'sweep'}", "--print"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.strip().endswith(f"--config.run.seed={seed}"), done.stderr


def test_points_are_scored_where_benchmarks_are_named(tmp_path):
    done = run(
        tmp_path, "--print", "--evaluate=playground/things,playground/full",
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
        ("yield {'model.mask_ratio': 2.0}", "model.mask_ratio: 2.0 is out of range"),
        ("yield {'name.x': 2.0}", "name.x is not a field"),
        ("return iter(())", "yields nothing"),
        ("yield {'run.seed': 1}; yield {'optim.steps': 1}", "set the same fields in every point"),
    ],
)
def test_points_that_cannot_be_are_said_before_anything_runs(tmp_path, body, sentence):
    done = run(tmp_path, body=body)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "sweep").exists()
