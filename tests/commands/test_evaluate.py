"""`zeroseg evaluate`: its files, and every benchmark from its official layout to a score."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
from absl.flags import FLAGS
from absl.testing import flagsaver
from PIL import Image

from zeroseg_jax.commands import evaluate
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.inference.presets import get_preset

ROOT = Path(__file__).parent.parent.parent
# What each raw value of the fixtures becomes; None where no score counts it. The masks of
# Context are converted, and known by their ids.
IDS = {
    "voc21": {0: 0, 1: 1, 15: 15, 20: 20, 255: None},
    "voc20": {0: None, 1: 0, 15: 14, 20: 19, 255: None},
    "context60": {0: 0, 1: 1, 2: 2, 3: 3, 59: 59},
    "context59": {0: None, 1: 0, 2: 1, 3: 2, 59: 58},
    "coco_object": {0: 1, 10: 11, 12: 12, 89: 80, 91: 0, 181: 0, 255: 0},
    "coco_stuff171": {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: None},
    "coco_stuff27": {0: 9, 10: 8, 12: 8, 89: 4, 91: 17, 181: 24, 255: None},
    "ade150": {0: None, 1: 0, 2: 1, 150: 149},
    "cityscapes19": {0: None, 7: 0, 8: 1, 9: None, 26: 13, 33: 18},
    "imagenet_s50": {0: 0, 1: 1, 50: 50, 1000: None},
    "imagenet_s": {0: 0, 1: 1, 257: 257, 919: 919, 1000: None},
    "folder": {0: 0, 1: 1, 2: 2, 255: None},
}
OFFICIAL = {"voc21": "1449", "voc20": "1449", "context60": "5105 or 5104",
            "context59": "5105 or 5104", "coco_object": "5000", "coco_stuff171": "5000",
            "coco_stuff27": "5000",
            "ade150": "2000", "cityscapes19": "500", "imagenet_s50": "752",
            "imagenet_s": "12419"}  # fmt: skip
# ImageNet-S counts a class that never occurs as 0.
CLASSES_OF_ALL = {"imagenet_s50": 51, "imagenet_s": 920}
NOT_COUNTED = -1


@pytest.fixture
def run_evaluate():
    before = set(FLAGS)
    evaluate.define_flags()

    def run(output, *arguments):
        with flagsaver.flagsaver():  # no call inherits what another was told
            FLAGS(["evaluate", f"--output={output}", *arguments])
            evaluate.main([])
        return json.loads((output / "report.json").read_text())

    yield run
    for name in set(FLAGS) - before:
        delattr(FLAGS, name)


def write_fixture(name, root):
    """Write a data set; return the ids of each picture, NOT_COUNTED where no score counts."""
    options = {"values": tuple(IDS[name])} if name == "imagenet_s" else {}
    labels = {}
    for stem, mask in layouts.write(name, root, **options).items():
        labels[stem] = np.full(mask.shape, NOT_COUNTED)
        for raw, number in IDS[name].items():
            if number is not None:
                labels[stem][mask == raw] = number
    return labels


def write_maps(labels, folder, wherever=7):
    """Write predictions of another tool, with whatever it likes where nothing counts."""
    for stem, ids in labels.items():
        ids = np.where(ids == NOT_COUNTED, wherever, ids)
        layouts.save(ids.astype(np.uint16 if ids.max() > 255 else np.uint8), folder / f"{stem}.png")


@pytest.mark.parametrize("name", IDS)
def test_truth_scores_100_and_a_planted_error_what_the_hand_counts(name, tmp_path, run_evaluate,
                                                                  capsys):  # fmt: skip
    data = tmp_path / "data"
    labels = write_fixture(name, data)
    flat = np.concatenate([ids.ravel() for ids in labels.values()])
    present, pixels = np.unique(flat[flat != NOT_COUNTED], return_counts=True)
    assert set(present) == {number for number in IDS[name].values() if number is not None}
    means_over = CLASSES_OF_ALL.get(name, len(present))
    asked = (f"--benchmark={name}", f"--data_dir={data}")

    write_maps(labels, tmp_path / "right")
    result = run_evaluate(tmp_path / "a", *asked, f"--model=predictions:{tmp_path / 'right'}")
    assert result["miou"] == round(100 * len(present) / means_over, 2)
    assert (result["images"], result["present_classes"]) == (2, len(present))
    assert result["affected"]["ignored_pixels"] == (flat == NOT_COUNTED).sum()
    assert len(list((tmp_path / "a" / "pictures").iterdir())) == 2
    said = capsys.readouterr().out
    if name in OFFICIAL:
        assert f"2 of {OFFICIAL[name]} images, checkpoint" in said
        note = f"a score on 2 of {OFFICIAL[name]} images is not comparable to others"
        assert note in said and result["notes"] == [note]
    else:
        assert (
            "2 images (ignore 255, reduce_zero False), checkpoint" in said and not result["notes"]
        )

    # Nine pixels of the second class are taken for the last.
    (stem, ids), *_ = labels.items()
    rows, columns = np.nonzero(ids == present[1])
    ids[rows[:9], columns[:9]] = present[-1]
    ious = np.ones(len(present))
    ious[1], ious[-1] = (pixels[1] - 9) / pixels[1], pixels[-1] / (pixels[-1] + 9)
    write_maps(labels, tmp_path / "wrong", wherever=0)
    result = run_evaluate(tmp_path / "b", *asked, f"--model=predictions:{tmp_path / 'wrong'}",
                          "--pictures=0")  # fmt: skip
    assert result["miou"] == pytest.approx(100 * ious.sum() / means_over, abs=0.0051)
    assert result["miou"] < 100 * len(present) / means_over - 0.01
    assert result["pixel_accuracy"] == pytest.approx(100 * (1 - 9 / pixels.sum()), abs=0.0051)


def test_the_teacher_itself_with_a_background(tmp_path, run_evaluate, capsys):
    data = tmp_path / "data"
    layouts.write_voc(data, names=("2007_000033", "2008_000002", "2008_000003"))
    asked = ("--benchmark=voc21", f"--data_dir={data}", "--pictures=0", "--images=2")
    sizes = "--set=short_side_px=96,window_px=96,stride_px=48"
    result = run_evaluate(tmp_path / "a", *asked, "--model=dense:maskclip", "--preset=groupvit",
                          sizes, "--save_predictions")  # fmt: skip
    preset = result["preset"]
    assert (preset["threshold"], preset["words_file"], preset["window_px"]) == (
        0.95,
        "groupvit",
        96,
    )
    assert result["words"][10] == ["table"] and len(result["words"]) == 20
    maps = {path.stem: np.asarray(Image.open(path)) for path in
            (tmp_path / "a" / "predictions").iterdir()}  # fmt: skip
    assert set(maps) == {"2007_000033", "2008_000002"}
    assert len(np.unique(np.stack(list(maps.values())))) > 1
    assert all(m.shape == layouts.SIZE and m.max() <= 20 for m in maps.values())
    said = capsys.readouterr().out
    assert "2 of 1449 images, checkpoint" in said
    assert "protocol: preset groupvit" in said and "threshold 0.95 (window)" in said
    # Another tool that made these maps would get this score.
    again = run_evaluate(tmp_path / "b", *asked,
                         f"--model=predictions:{tmp_path / 'a' / 'predictions'}")  # fmt: skip
    assert again["miou"] == result["miou"] and 0 <= result["miou"] < 100


def test_the_shipped_student_scores_a_folder_as_it_scores_the_playground(tmp_path, run_evaluate):
    data, scenes = tmp_path / "data", get_benchmark("playground/things", images=2)
    for scene in (scenes[0], scenes[1]):
        layouts.save(scene["image"], data / "images" / f"{scene['name']}.png")
        layouts.save(scene["label"].astype(np.uint8), data / "masks" / f"{scene['name']}.png")
    words = ["background", *("; ".join(names) for names in scenes.words)]
    (data / "words.txt").write_text("\n".join(words) + "\n")
    plain = {"refine": "none"}
    ours, usual = (
        dataclasses.asdict(get_preset("zeroseg", name, plain))
        for name in ("playground/things", "folder")
    )
    changes = [
        f"{field}={';'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for field, value in ours.items()
        if value != usual[field]
    ]
    changes.append("refine=none")
    shared = ("--workdir=playground", "--pictures=0")
    known = run_evaluate(tmp_path / "a", *shared, "--benchmark=playground/things", "--images=2",
                         "--set=refine=none")  # fmt: skip
    found = run_evaluate(tmp_path / "b", *shared, "--benchmark=folder", f"--data_dir={data}",
                         f"--set={','.join(changes)}")  # fmt: skip
    assert found["preset"] == known["preset"] and found["words"] == known["words"]
    assert found["per_class_iou"] == known["per_class_iou"] and known["miou"] > 20


def test_flags_of_a_folder_reach_it_and_no_other(tmp_path, run_evaluate):
    layouts.write_folder(tmp_path / "data", values=(0, 1, 2, 3, 9))
    write_maps({f"p{i}": np.zeros(layouts.SIZE) for i in range(2)}, tmp_path / "maps")
    model = f"--model=predictions:{tmp_path / 'maps'}"
    command = [sys.executable, "-m", "zeroseg_jax", "evaluate", model, "--benchmark=folder",
               f"--data_dir={tmp_path / 'data'}", f"--output={tmp_path / 'out'}",
               "--ignore=9", "--reduce_zero"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "XLA_FLAGS": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(ignore 9, reduce_zero True)" in done.stdout
    result = json.loads((tmp_path / "out" / "report.json").read_text())
    assert result["options"] == {"ignore": 9, "reduce_zero": True}
    masks = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "data" / "masks").iterdir())]
    counts = np.bincount(np.stack(masks).ravel(), minlength=10)
    assert result["affected"]["ignored_pixels"] == counts[0] + counts[9]
    assert result["pixel_accuracy"] == pytest.approx(
        100 * counts[1] / counts[1:4].sum(), abs=0.0051
    )
    (tmp_path / "maps" / "p1.png").unlink()
    with pytest.raises(ValueError, match=r"maps: p1.png is missing \(1 of 2 are\)"):
        run_evaluate(tmp_path / "no", model, "--benchmark=folder", "--ignore=9", "--reduce_zero",
                     f"--data_dir={tmp_path / 'data'}")  # fmt: skip
    for other in ("playground/things", "voc21"):
        with pytest.raises(ValueError, match=f"only for folder, not for {other}"):
            run_evaluate(tmp_path / "no", model, f"--benchmark={other}", "--reduce_zero",
                         f"--data_dir={tmp_path}")  # fmt: skip


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
