"""The files that `zeroseg evaluate` writes."""

import json


def test_evaluate_writes_what_the_report_promises(zeroseg, tmp_path):
    done = zeroseg(
        "evaluate", "--workdir=playground", "--benchmark=playground/things",
        "--preset=zeroseg", "--images=3", f"--output={tmp_path}", "--save_predictions",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    for key in ("miou", "per_class_iou", "pixel_accuracy", "images", "benchmark", "preset",
                "words", "prompts", "threshold", "checkpoint"):  # fmt: skip
        assert key in report
    assert report["images"] == 3 and len(list((tmp_path / "predictions").iterdir())) == 3
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    assert (tmp_path / "report.md").is_file()
    assert "preset zeroseg" in done.stdout and "threshold" in done.stdout
