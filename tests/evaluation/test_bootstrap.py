"""Bootstrap intervals of differences, and runs that cannot be read or compared."""

import dataclasses

import numpy as np
import pytest

from zeroseg_jax.evaluation import bootstrap


def test_bootstrap(runs):
    (row,) = bootstrap.bootstrap(runs, 500, 0)
    assert row["difference"] == pytest.approx(runs[1].result["miou"] - 100, abs=0.011)
    assert row["low"] <= row["difference"] <= row["high"] < 0 and row["ahead_in_draws"] == 0
    (same,) = bootstrap.bootstrap([runs[0], runs[0]], 100, 0)
    assert same == {"difference": 0, "low": 0, "high": 0, "ahead_in_draws": 0}


def test_absent_classes_count_zero_where_the_benchmark_says_so(runs):
    """The whole set as its own resample gives the report's score under both rules."""
    hit = np.array([[4, 0, 0]])
    run = dataclasses.replace(runs[0], hit=hit, truth=hit, predicted=hit)
    one = np.ones((1, 1), np.int64)
    assert bootstrap._miou(run, one, False) == 1
    assert bootstrap._miou(run, one, True) == pytest.approx(1 / 3)


def test_runs_that_cannot_be_compared(runs, tmp_path):
    for changes, sentence in (
        ({"images": ["a"]}, "scored 1 images"),
        ({"result": {**runs[1].result, "scene_seed": 7}}, "its scene_seed is 7"),
        ({"result": {**runs[1].result, "per_class_iou": {"x": 1.0}}}, "its classes differ"),
    ):
        with pytest.raises(ValueError, match=sentence):
            bootstrap.check_comparable([runs[0], dataclasses.replace(runs[1], **changes)])
    with pytest.raises(ValueError, match="holds no report.json"):
        bootstrap.read_run(tmp_path)
    for name in ("report.json", "counts.npz"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        bootstrap.read_run(tmp_path)
