"""Comparison of runs: bootstrap, images that differ, files, refusals."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from small_benchmark import SmallBenchmark, write_predictions

from zeroseg_jax.evaluation import comparison, runner
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.inference.presets import get_preset

BENCHMARK = SmallBenchmark(6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a perfect run, and one whose upper halves are background."""
    root = tmp_path_factory.mktemp("runs")
    for kind in ("good", "bad"):
        folder = root / kind / "maps"
        write_predictions(folder, BENCHMARK)
        if kind == "bad":
            for path in folder.iterdir():
                labels = np.array(Image.open(path))
                labels[: len(labels) // 2] = 0
                Image.fromarray(labels).save(path)
        runner.evaluate(
            PredictionFolder(folder), BENCHMARK, get_preset("zeroseg", "playground/things"),
            checkpoint=kind, output=root / kind, save_predictions=True, panels=0,
            log=lambda line: None,
        )  # fmt: skip
    return [comparison.read_run(root / kind) for kind in ("good", "bad")]


def test_bootstrap(runs):
    (row,) = comparison.bootstrap(runs, 500, 0)
    assert row["difference"] == pytest.approx(runs[1].result["miou"] - 100, abs=0.011)
    assert row["low"] <= row["difference"] <= row["high"] < 0 and row["ahead_in_draws"] == 0
    (same,) = comparison.bootstrap([runs[0], runs[0]], 100, 0)
    assert same == {"difference": 0, "low": 0, "high": 0, "ahead_in_draws": 0}


def test_absent_classes_count_zero_where_the_benchmark_says_so(runs):
    """The whole set as its own resample gives the report's score under both rules."""
    hit = np.array([[4, 0, 0]])
    run = dataclasses.replace(runs[0], hit=hit, truth=hit, predicted=hit)
    one = np.ones((1, 1), np.int64)
    assert comparison._miou(run, one, False) == 1
    assert comparison._miou(run, one, True) == pytest.approx(1 / 3)


def test_images_that_differ_most_come_first(runs):
    differing = comparison.find_differing(runs, 3)
    assert len(differing) == 3 and differing[0][1] >= differing[1][1] > 0
    with_truth = comparison.draw_differing(runs, differing[0][0], BENCHMARK)
    alone = comparison.draw_differing(runs, differing[0][0], None)
    assert with_truth.width > 4 * 224 > alone.width > 2 * 224
    assert comparison.find_differing([runs[0], runs[0]], 3) == []


def test_compare_writes_its_files(runs, tmp_path):
    directories = [str(run.directory) for run in runs]
    summary = comparison.compare(directories, tmp_path, draws=100, images=2)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert record["miou"] == [100.0, runs[1].result["miou"]] and len(record["differing"]) == 2
    difference = f"{record['against_first'][0]['difference']:+.2f}"
    assert difference in summary
    markdown = (tmp_path / "compare.md").read_text()
    assert "| ring | 100.00 |" in markdown and f"| {difference} |" in markdown
    page = (tmp_path / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 2 and difference in page


def test_runs_that_cannot_be_compared(runs, tmp_path):
    for changes, sentence in (
        ({"images": ["a"]}, "scored 1 images"),
        ({"result": {**runs[1].result, "scene_seed": 7}}, "its scene_seed is 7"),
        ({"result": {**runs[1].result, "per_class_iou": {"x": 1.0}}}, "its classes differ"),
    ):
        with pytest.raises(ValueError, match=sentence):
            comparison.check_comparable([runs[0], dataclasses.replace(runs[1], **changes)])
    with pytest.raises(ValueError, match="holds no report.json"):
        comparison.read_run(tmp_path)
    with pytest.raises(ValueError, match="at least two"):
        comparison.compare(["one"], tmp_path)
    for name in ("report.json", "counts.npz"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        comparison.read_run(tmp_path)
