"""Points of a sweep are finished only if settings, steps and reports agree."""

import dataclasses
import json

import pytest

from zeroseg_jax.config import Config, to_mapping
from zeroseg_jax.evaluation import sweep_points

FLAGS = {"evaluate": "playground/things", "evaluate_with": "--images=4"}
NAMES = ["playground/things"]


@pytest.fixture
def point(tmp_path):
    """Write a trained and scored point."""
    place = tmp_path / "000"
    (place / "checkpoints" / "20").mkdir(parents=True)
    manifest = {"config": to_mapping(Config()), "steps": 20}
    (place / "manifest.json").write_text(json.dumps(manifest))
    report = place / "reports" / "playground" / "things" / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"checkpoint": f"{place} at step 20"}))
    sweep_points.record_evaluation(place, FLAGS)
    return place


def test_a_finished_point(point):
    assert not sweep_points.list_differences(point, Config())
    assert sweep_points.is_trained(point) and sweep_points.is_scored(point, NAMES, FLAGS)


def test_edited_settings_differ(point):
    config = Config()
    edited = dataclasses.replace(config, optim=dataclasses.replace(config.optim, base_rate=0.5))
    assert "optim.base_rate" in sweep_points.list_differences(point, edited)[0]
    logged = dataclasses.replace(config, run=dataclasses.replace(config.run, log_every_steps=3))
    assert not sweep_points.list_differences(point, logged)


def test_a_stopped_training_is_neither_trained_nor_scored(point):
    (point / "checkpoints" / "20").rename(point / "checkpoints" / "1")
    assert not sweep_points.is_trained(point)
    assert not sweep_points.is_scored(point, NAMES, FLAGS)
    assert not sweep_points.is_trained(point.with_name("001"))


@pytest.mark.parametrize("checkpoint", ["{} at step 1", "{} at step 120", None, 3])
def test_a_report_of_another_step_is_no_score(point, checkpoint):
    checkpoint = checkpoint.format(point) if isinstance(checkpoint, str) else checkpoint
    report = point / "reports" / "playground" / "things" / "report.json"
    report.write_text(json.dumps({"checkpoint": checkpoint}))
    assert not sweep_points.is_scored(point, NAMES, FLAGS)
    assert sweep_points.is_scored(point, [], FLAGS)


def test_other_flags_of_evaluate_score_again(point):
    assert not sweep_points.is_scored(point, NAMES, {**FLAGS, "evaluate_with": ""})
    assert not sweep_points.is_scored(point, [*NAMES, "playground/full"], FLAGS)


@pytest.mark.parametrize("name", ["manifest.json", "reports/playground/things/report.json"])
@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_damaged_files_are_named(point, name, content):
    (point / name).write_text(content)
    with pytest.raises(ValueError, match=name):
        sweep_points.is_scored(point, NAMES, FLAGS)


def test_old_runs_are_kept(point):
    assert sweep_points.move_away(point).name == "000.before1"
    point.mkdir()
    assert sweep_points.move_away(point).name == "000.before2"
    assert (point.with_name("000.before1") / "manifest.json").is_file()
