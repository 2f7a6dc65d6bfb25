"""The commands as users type them: what they write, what they say, how they exit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.commands.segment import parse_classes
from zeroseg_jax.data.playground import scenes

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    image, _ = scenes.render(scenes.build_scene(2, 5), 200)
    Image.fromarray(image).save(folder / "scene.png")
    Image.fromarray(np.ascontiguousarray(image[:90])).save(folder / "wide.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def test_segment_writes_overlay_mask_and_json(pictures, tmp_path):
    done = run(
        "segment", pictures / "scene.png", pictures / "empty.jpg",
        pictures / "wide.jpg", "--classes=star; ring, hoop; grass; sky", f"--output={tmp_path}",
    )  # fmt: skip
    # One picture is bad: it is named, the others are done, and the exit code tells.
    assert done.returncode == 1
    assert "empty.jpg: the file is empty" in done.stderr and "Traceback" not in done.stderr
    for stem, size in (("scene", (200, 200)), ("wide", (200, 90))):
        mask = Image.open(tmp_path / f"{stem}_mask.png")
        assert mask.size == size and mask.mode == "P"
        record = json.loads((tmp_path / f"{stem}.json").read_text())
        assert [c["word"] for c in record["classes"]] == ["star", "ring", "grass", "sky"]
        areas = np.bincount(np.asarray(mask).ravel(), minlength=4)
        assert [c["area_px"] for c in record["classes"]] == areas.tolist()
        assert sum(c["area"] for c in record["classes"]) == pytest.approx(1, abs=1e-4)
        assert Image.open(tmp_path / f"{stem}_overlay.png").size[0] >= size[0]


def test_evaluate_writes_what_the_report_promises(tmp_path):
    done = run(
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


def test_debug_recipe_trains_with_a_live_teacher_and_resumes(tmp_path):
    command = ("train", "--config=configs/debug.py", f"--workdir={tmp_path}",
               "--config.optim.steps=3", "--config.run.checkpoint_every_steps=1")  # fmt: skip
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    again = run(*command)
    assert again.returncode == 0 and "going on from step 3 of 3" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "--config=configs/playground.py", "--workdir=none",
          "--config.optim.base_rat=1"), "base_rate"),
        (("train", "--config=configs/playground.py:defualt", "--workdir=none"),
         "default, faithful, long"),
        (("train", "--config=configs/playground.py", "--workdir=none"),
         "zeroseg prepare"),
        (("train", "--config=configs/playground.py", "--workdir=none",
          "--config.model.mask_ratio=1.5"), "model.mask_ratio"),
        (("evaluate", "--workdir=none", "--output=none"), "neither a work directory"),
        (("segment", "a.png", "--classes=star;;grass", "--output=none"), "blank"),
    ],
)  # fmt: skip
def test_misuse_is_one_sentence(arguments, sentence, tmp_path):
    done = run(*(a.replace("=none", f"={tmp_path / 'none'}") for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_words():
    assert parse_classes("star; ring, hoop ;grass") == [["star"], ["ring", "hoop"], ["grass"]]
    for text, reason in (("", "blank"), ("a;;b", "blank"), ("a; a", "stands twice")):
        with pytest.raises(ValueError, match=reason):
            parse_classes(text)
    with pytest.raises(ValueError, match="1001 classes are more than 1000"):
        parse_classes(";".join(f"w{i}" for i in range(1001)))
