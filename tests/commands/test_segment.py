"""The files that `zeroseg segment` writes, and what it prints."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.commands import segment
from zeroseg_jax.inference.segmentation import Segmentation


def test_segment_writes_overlay_mask_and_json(zeroseg, images, tmp_path):
    done = zeroseg(
        "segment", images, "--model=playground", "--words=star; ring, hoop; grass",
        "--background=sky", f"--output={tmp_path}",
    )  # fmt: skip
    # One image is unreadable: it is named, the others are segmented, and the exit code is 1.
    assert done.returncode == 1
    assert "empty.jpg: the file is empty" in done.stderr and "Traceback" not in done.stderr
    assert "word" in done.stdout and "score" in done.stdout and "2 written" in done.stdout
    assert "segment: 3/3, " in done.stderr and " s an image, 0 s left" in done.stderr
    for stem, size in (("a", (200, 200)), ("a-2", (200, 90))):
        mask = Image.open(tmp_path / f"{stem}_mask.png")
        assert mask.size == size and mask.mode == "P"
        record = json.loads((tmp_path / f"{stem}.json").read_text())
        assert [c["word"] for c in record["classes"]] == ["background", "star", "ring", "grass"]
        areas = np.bincount(np.asarray(mask).ravel(), minlength=4)
        assert [c["area_px"] for c in record["classes"]] == areas.tolist()
        assert sum(c["area"] for c in record["classes"]) == pytest.approx(1, abs=1e-4)
        assert Image.open(tmp_path / f"{stem}_overlay.png").size[0] >= size[0]


def test_cutouts_polygons_and_refinement_are_asked_for_by_flags(zeroseg, images, tmp_path):
    def run(*flags):
        done = zeroseg(
            "segment", images / "a.png", "--model=playground", "--words=star, grass, sky",
            f"--output={tmp_path}", *flags,
        )  # fmt: skip
        return done, json.loads((tmp_path / "a.json").read_text())

    done, guided = run("--cutout", "--polygons=coco")
    assert done.returncode == 0, done.stderr
    words = [c["word"] for c in guided["classes"] if c["area_px"]]
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.json", "a_coco.json", "a_mask.png", "a_overlay.png",
        *(f"a_cutout_{word}.png" for word in words),
    }  # fmt: skip
    coco = json.loads((tmp_path / "a_coco.json").read_text())
    assert {a["area"] for a in coco["annotations"]} == {
        c["area_px"] for c in guided["classes"] if c["area_px"]
    }
    assert guided["model"]["name"].startswith("playground at step ")
    assert "drawn shapes" in guided["note"]
    assert guided["model"]["preset"]["refine"] == "guided"
    pamr, plain = run("--refine=pamr")[1], run("--refine=none")[1]
    assert pamr["model"]["preset"]["refine"] == "pamr"
    areas = {tuple(c["area_px"] for c in record["classes"]) for record in (pamr, guided, plain)}
    assert len(areas) == 3  # three different masks
    # A file of somebody else stays.
    (tmp_path / "a.json").write_text("{}")
    done, record = run()
    assert done.returncode == 2 and "a.json: exists and was not written by" in done.stderr
    assert record == {}


def test_an_image_comes_from_standard_input_and_goes_to_standard_output(
    zeroseg, images, tmp_path, capfdbinary
):
    (tmp_path / "words.txt").write_text("star\ngrass, lawn\nsky\n")
    with open(images / "a.png", "rb") as image:
        done = zeroseg(
            "segment", "-", "--model=playground", f"--words=@{tmp_path / 'words.txt'}",
            "--output=-", "--polygons=coco", "--device=cpu", "--dtype=bfloat16", stdin=image,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert {c["name"] for c in content["categories"]} <= {"star", "grass", "sky"}
    assert "standard input, 200 x 200 px" in done.stderr
    mask = np.zeros((20, 30), np.uint8)
    image = np.full((20, 30, 3), 90, np.uint8)
    result = Segmentation(image, mask, np.ones(mask.shape, np.float32), mask, ("dog",), "m")
    segment.write_stdout(result, "")
    shown = Image.open(io.BytesIO(capfdbinary.readouterr().out))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(result.overlay()))


def test_background_is_read_as_a_number_or_words():
    assert segment.read_background("") is None
    assert segment.read_background("0.4") == 0.4
    assert segment.read_background("wall; floor") == "wall; floor"


def test_no_input_is_overwritten(zeroseg, images, tmp_path):
    one = (images / "a.png").read_bytes()
    for name in ("b.png", "b_overlay.png"):
        (tmp_path / name).write_bytes(one)
    done = zeroseg(
        "segment", tmp_path / "b.png", tmp_path / "b_overlay.png", "--model=playground",
        "--words=star, grass", f"--output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2 and "b_overlay.png: is an input image" in done.stderr
    assert (tmp_path / "b_overlay.png").read_bytes() == one
    assert "only the drawn shapes" in done.stderr
