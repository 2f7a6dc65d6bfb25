"""The verify command: each planted fault is found, and a good data set passes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.benchmarks import FILES, open_files
from zeroseg_jax.data.benchmarks import verify as check
from zeroseg_jax.data.benchmarks.mess import SOURCES

ROOT = Path(__file__).parent.parent.parent


def verify(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "verify", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )


def findings_of(name, root, **options):
    benchmark = open_files(name, root, **options)
    return benchmark, check.check(benchmark, log=lambda line: None)


# Others are verified beside their own fixtures.
@pytest.mark.parametrize("name", sorted(FILES.keys() - {*SOURCES, "ade847", "context459"}))
def test_only_the_count_is_wrong_with_a_fixture(tmp_path, name):
    layouts.write(name, tmp_path)
    benchmark, findings = findings_of(name, tmp_path)
    assert findings.images == 2
    assert set(findings.problems) == (set() if name == "folder" else {"count"})
    labels = [benchmark[i]["label"] for i in range(2)]
    counts = [sum((label == k).sum() for label in labels) for k in range(len(findings.histogram))]
    assert findings.histogram[:-1].tolist() == counts[:-1]
    assert findings.histogram[-1] == sum((label == -1).sum() for label in labels)
    holds = [sum(bool((label == k).any()) for label in labels) for k in range(len(counts) - 1)]
    assert findings.occurs[:-1].tolist() == holds


def test_command_on_a_good_folder(tmp_path):
    layouts.write_folder(tmp_path)
    done = verify("--benchmark=folder", f"--data_dir={tmp_path}", f"--json={tmp_path}/out/f.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("folder: 2 images, labels 0..2, 255, 3 of 3 classes occur")
    assert lines[-1] == f"folder: good in {tmp_path}"
    record = json.loads((tmp_path / "out" / "f.json").read_text())
    assert record["images"] == 2 and record["problems"] == {} and min(record["images_with"]) == 2
    assert sum(record["pixels"]) + record["ignored_pixels"] == 2 * 12 * 17


def test_command_names_every_fault_and_what_to_do(tmp_path):
    names = [f"2007_00000{i}" for i in range(8)]
    layouts.write_voc(tmp_path, names=names)
    devkit = tmp_path / "VOCdevkit" / "VOC2012"
    images, masks = devkit / "JPEGImages", devkit / "SegmentationClass"
    (masks / f"{names[0]}.png").unlink()
    (images / f"{names[1]}.jpg").unlink()
    (images / f"{names[2]}.jpg").write_bytes((images / f"{names[2]}.jpg").read_bytes()[:200])
    (masks / f"{names[3]}.png").write_bytes(b"")
    layouts.save(np.full(layouts.SIZE, 37, np.uint8), masks / f"{names[4]}.png")
    layouts.save(np.zeros((12, 16), np.uint8), masks / f"{names[5]}.png")
    Image.open(masks / f"{names[6]}.png").convert("RGB").save(masks / f"{names[6]}.png")
    done = verify("--benchmark=voc21", f"--data_dir={tmp_path}", f"--json={tmp_path}/f.json")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    for line, parts in zip(problems, [
        ("6 pairs", "1449", "unpack"),
        (f"{names[0]}.png", "missing", "unpack"),
        (f"{names[1]}.jpg", "missing", "unpack"),
        (f"{names[2]}.jpg", "damaged"),
        (f"{names[3]}.png", "empty"),
        (f"{names[4]}.png", "label 37", "0..20, 255"),
        (f"{names[6]}.png", "mode RGB", "palette or grey"),
        (f"{names[5]}.png", "16 x 12", "17 x 12"),
    ], strict=True):  # fmt: skip
        assert all(part in line for part in parts), (line, parts)
    assert done.stdout.splitlines()[-1] == f"voc21: 8 problems in {tmp_path}"
    assert sum(map(len, json.loads((tmp_path / "f.json").read_text())["problems"].values())) == 8


def test_many_problems_of_a_kind_are_counted(tmp_path):
    layouts.write_folder(tmp_path, values=(0, 9), count=7)
    benchmark, findings = findings_of("folder", tmp_path)
    lines = check.render_findings(benchmark, findings)
    assert findings.count_problems() == 7
    assert sum(line.startswith("problem: ") for line in lines) == 4
    assert "4 more of kind 'label'" in lines[-1]


def test_what_is_unusual_is_a_note(tmp_path):
    layouts.write_folder(tmp_path)
    layouts.save(np.zeros((4, 90), np.uint8), tmp_path / "masks" / "p0.png")
    layouts.picture(tmp_path / "images" / "p0.jpg", size=(4, 90))
    layouts.save(np.full((5, 6), 255, np.uint8), tmp_path / "masks" / "p1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    layouts.save(np.zeros((5, 6, 3), np.uint8), tmp_path / "images" / "p1.jpg", exif=exif)
    layouts.save(np.zeros((5, 6), np.uint8), tmp_path / "masks" / "alone.png")
    benchmark, findings = findings_of("folder", tmp_path)
    assert not findings.problems
    for kind, parts in {
        "aspect": ("p0.jpg", "90 x 4"),
        "ignored": ("p1.png", "every pixel"),
        "exif": ("p1.jpg", "EXIF"),
        "spare": ("alone.png", "without an image"),
        "absent": ("dog", "grass"),
    }.items():
        assert all(part in findings.notes[kind][0] for part in parts)
    assert (
        sum(line.startswith("note: ") for line in check.render_findings(benchmark, findings)) == 5
    )


def test_masks_of_0_and_255_are_a_problem(tmp_path):
    """Drawing tools write two classes as black and white; 255 is ignored by default."""
    layouts.write_folder(tmp_path)
    for name in ("p0", "p1"):
        with Image.open(tmp_path / "masks" / f"{name}.png") as image:
            mask = np.zeros((image.height, image.width), np.uint8)
        mask[: len(mask) // 2] = 255
        layouts.save(mask, tmp_path / "masks" / f"{name}.png")
    _, findings = findings_of("folder", tmp_path)
    assert "255 seems to be a class" in findings.problems["two values"][0]


def test_many_classes_are_shown_compactly(tmp_path):
    layouts.write_ade(tmp_path, values=range(151))
    layouts.write_ade(tmp_path, values=range(46))
    lines = check.render_findings(*findings_of("ade150", tmp_path))
    assert len(lines) < 20 and all(len(line) < 200 for line in lines)


def test_context_is_converted_and_checked_in_one_command(tmp_path):
    layouts.write_context(tmp_path)
    first = verify("--benchmark=context59", f"--data_dir={tmp_path}")
    assert first.returncode == 1 and "problem: " in first.stdout and "--convert" in first.stdout
    done = verify("--benchmark=context59", f"--data_dir={tmp_path}", "--convert")
    assert done.returncode == 1  # two pictures are not 5,105
    assert "convert: 3 masks written" in done.stdout and done.stdout.count("problem: ") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--benchmark=voc12", "--data_dir=DIR"), "did you mean"),
        (("--benchmark=voc21", "--data_dir=DIR/none"), "is not a directory"),
        (("--benchmark=voc21",), "data_dir"),
        (("--benchmark=voc21", "--data_dir=DIR", "--convert"), "leave the flag out"),
        (("--benchmark=folder", "--data_dir=DIR", "--ignore=-2"), "--ignore"),
    ],
)
def test_misuse_is_one_sentence(tmp_path, arguments, sentence):
    layouts.write_folder(tmp_path)
    done = verify(*(argument.replace("DIR", str(tmp_path)) for argument in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1
