"""Comparison of runs: images that differ, files, refusals."""

import json

import pytest
from small_benchmark import SmallBenchmark

from zeroseg_jax.evaluation import comparison


def test_images_that_differ_most_come_first(runs):
    differing = comparison.find_differing(runs, 3)
    assert len(differing) == 3 and differing[0][1] >= differing[1][1] > 0
    with_truth = comparison.draw_differing(runs, differing[0][0], SmallBenchmark(6))
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
    assert "| good | 100.00 |" in markdown and f"| bad | {directories[1]} |" in markdown
    assert "| preset | unknown | unknown |" not in markdown  # label maps have no protocol
    page = (tmp_path / "compare.html").read_text()
    assert page.count("data:image/jpeg") == 2 and difference in page


def test_names_of_runs_are_short_and_distinct(runs):
    assert comparison.name_runs(runs) == ["good", "bad"]
    assert comparison.name_runs([runs[0], runs[0]]) == [str(runs[0].directory)] * 2


def test_one_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least two"):
        comparison.compare(["one"], tmp_path)
