"""The glue: resume bit for bit, devices, damage, refusals, and that it learns."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from zeroseg_jax import paths, teacher
from zeroseg_jax.config import MeshConfig, from_mapping, to_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.training import optimizer, writer
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.exported import export_params
from zeroseg_jax.training.loop import Options, train

ROOT = Path(__file__).parent.parent.parent
TINY = {
    "model": {
        "image_px": 32,
        "embed_dim": 128,
        "encoder": {"width": 16, "depth": 1, "heads": 2, "patch_px": 8},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "head": {"width": 16, "heads": 2, "stage_depths": (1, 1, 1), "segment_tokens": (8, 4),
                 "z_hidden": 16},
    },
    "loss": {"cell": 1.0},
    "teacher": {"grids": (1, 2)},
    "optim": {"batch_global": 8, "base_rate": 0.1, "steps": 8},
    "run": {"log_every_steps": 1, "checkpoint_every_steps": 2},
}  # fmt: skip
RUN = """
import json, sys
from pathlib import Path
from zeroseg_jax import teacher
from zeroseg_jax.config import MeshConfig, from_mapping
from zeroseg_jax.training.loop import Options, train
config = from_mapping(json.loads(Path(sys.argv[2]).read_text()))
train(config, sys.argv[1], teacher=teacher.load("playground"))
"""


@pytest.fixture(scope="module")
def clip():
    return teacher.load("playground")


@pytest.fixture(scope="module")
def bank_dir(tmp_path_factory, clip):
    directory = tmp_path_factory.mktemp("bank")
    rng = np.random.default_rng(0)
    settings = {
        "teacher": clip.digest,
        "embed_dim": 128,
        "grids": [1, 2],
        "overlap": False,
        "image_px": 32,
    }
    bank.begin_bank(directory, settings)
    records = [
        bank.encode_record(
            i,
            str(i),
            rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
            rng.normal(size=(5, 128)).astype(np.float16),
        )
        for i in range(24)
    ]
    bank.write_shard(directory, 0, records, [])
    bank.finish_bank(directory, 1, settings)
    return directory


def configure(bank_dir, **optim):
    config = from_mapping(TINY)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, bank=str(bank_dir)),
        optim=dataclasses.replace(config.optim, **optim),
    )


def losses_of(workdir):
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def quiet(line):
    del line


@pytest.fixture(scope="module")
def whole(tmp_path_factory, bank_dir, clip):
    workdir = tmp_path_factory.mktemp("whole")
    result = train(configure(bank_dir), workdir, teacher=clip, options=Options(log=quiet))
    assert result["finished"]
    return workdir


def assert_same_params(first, second):
    one, two = (paths.flatten(load_params(directory)[0]) for directory in (first, second))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def start(workdir, settings):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(workdir), str(settings)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ.copy(),
    )


def test_killed_and_resumed_in_new_processes_equals_undisturbed(tmp_path, bank_dir, whole):
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(to_mapping(configure(bank_dir))))
    workdir = tmp_path / "run"
    process = start(workdir, settings)
    while process.poll() is None and not (workdir / "checkpoints" / "2").is_dir():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(workdir, settings).wait() == 0
    assert_same_params(whole, workdir)
    assert losses_of(workdir) == losses_of(whole)


def test_sigterm_saves_and_the_run_goes_on(tmp_path, bank_dir, whole):
    settings = tmp_path / "config.json"
    config = configure(bank_dir)
    settings.write_text(json.dumps(to_mapping(config)))
    workdir = tmp_path / "run"
    process = start(workdir, settings)
    while process.poll() is None and not losses_of_or_none(workdir):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert start(workdir, settings).wait() == 0
    assert_same_params(whole, workdir)


def losses_of_or_none(workdir):
    return (workdir / "metrics.jsonl").is_file() and (workdir / "metrics.jsonl").read_text()


def test_one_device_equals_eight(tmp_path, bank_dir, clip, whole):
    assert jax.device_count() == 8
    config = configure(bank_dir)
    config = dataclasses.replace(config, mesh=MeshConfig(data=1))
    train(config, tmp_path, teacher=clip, options=Options(log=quiet))
    one, eight = losses_of(tmp_path), losses_of(whole)
    for step in range(1, 9):
        np.testing.assert_allclose(one[step], eight[step], rtol=1e-5)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, bank_dir, clip, whole):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    newest = workdir / "checkpoints" / "8"
    for path in sorted(newest.rglob("*")):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    lines = []
    result = train(configure(bank_dir), workdir, teacher=clip, options=Options(log=lines.append))
    assert result["finished"]
    assert any("8" in line and "damaged" in line for line in lines)
    assert any("going on from step 6" in line for line in lines)
    assert_same_params(whole, workdir)


def test_another_config_is_refused_by_field(tmp_path, bank_dir, clip, whole):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    with pytest.raises(ValueError, match=r"optim.weight_decay \(0.05 there, 0.1 now\)"):
        train(configure(bank_dir, weight_decay=0.1), workdir, teacher=clip, options=Options(log=quiet))


def test_misfits_are_named_before_anything_starts(tmp_path, bank_dir, clip):
    narrow = from_mapping({**TINY, "model": {**TINY["model"], "embed_dim": 64}})
    narrow = dataclasses.replace(narrow, data=configure(bank_dir).data)
    with pytest.raises(ValueError, match="model.embed_dim: 64 .* 128"):
        train(narrow, tmp_path / "a", teacher=clip, options=Options(log=quiet))
    with pytest.raises(ValueError, match="optim.batch_global: 9 is not a multiple of 8"):
        train(configure(bank_dir, batch_global=9), tmp_path / "b", teacher=clip, options=Options(log=quiet))
    other = from_mapping({**TINY, "teacher": {"grids": (1, 3)}})
    other = dataclasses.replace(other, data=configure(bank_dir).data)
    with pytest.raises(ValueError, match="bank: grids"):
        train(other, tmp_path / "c", teacher=clip, options=Options(log=quiet))
    assert not any(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(tmp_path, bank_dir, clip):
    with pytest.raises(ValueError, match=r"training: \w+ is (nan|inf) at step"):
        train(configure(bank_dir, base_rate=1e30), tmp_path, teacher=clip, options=Options(log=quiet))
    record = json.loads(next(tmp_path.glob("diagnostic-*.json")).read_text())
    assert len(record["images"]) == 8


def test_it_learns_eight_images(tmp_path, bank_dir, clip):
    config = configure(bank_dir, steps=150, base_rate=0.3)
    rarely = {"log_every_steps": 50, "checkpoint_every_steps": 150}
    config = dataclasses.replace(
        config, run=dataclasses.replace(config.run, **rarely), mesh=MeshConfig(data=1)
    )
    train(config, tmp_path, teacher=clip, options=Options(log=quiet))
    losses = losses_of(tmp_path)
    assert losses[150] < 0.9 * losses[1]


def test_export_round_trip(tmp_path, whole):
    params, config, step = load_params(whole)
    export_params(params, config, tmp_path, {"step": step}, dtype="float32")
    found, again, found_step = load_params(tmp_path)
    assert (again, found_step) == (config, 8)
    for name, leaf in paths.flatten(found).items():
        np.testing.assert_array_equal(leaf, paths.flatten(params)[name])
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="model.safetensors"):
        load_params(tmp_path)


def test_no_student_there(tmp_path):
    with pytest.raises(ValueError, match="neither a work directory"):
        load_params(tmp_path)


def test_schedule_and_decay_mask(bank_dir):
    config = configure(bank_dir, base_rate=1.5e-4, batch_global=512, warmup_fraction=0.25)
    rate = optimizer.build_schedule(config, 100)
    assert rate(0) == 0
    np.testing.assert_allclose(rate(25), 3e-4, rtol=1e-6)
    np.testing.assert_allclose(rate(25 + 75 // 2 + 1), 1.5e-4, rtol=5e-2)
    assert abs(rate(100)) < 1e-9
    mask = optimizer.decay_mask(
        {"a": {"kernel": np.ones((2, 2)), "bias": np.ones(2)},
         "segment_tokens_0": np.ones((2, 2)), "positions": np.ones((2, 2))}
    )  # fmt: skip
    assert mask == {
        "a": {"kernel": True, "bias": False},
        "segment_tokens_0": False,
        "positions": False,
    }


def test_metrics_keep_each_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    metrics = writer.MetricsWriter(tmp_path, 2)
    metrics.write({"step": 3, "again": True})
    metrics.close()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_manifest_tells_what_ran(whole):
    record = json.loads((whole / "manifest.json").read_text())
    for key in ("config", "overrides", "packages", "python", "teacher", "devices", "steps"):
        assert key in record


def test_first_match_rules():
    rules = (("^a/", 1), (".*", 2))
    assert paths.first_match(rules, "a/b") == 1 and paths.first_match(rules, "ba/") == 2
    with pytest.raises(KeyError, match="no rule for"):
        paths.first_match(rules[:1], "z")
