"""Whole evaluations: the same at any batch and device count, and every bad input is a sentence."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from small_benchmark import SmallBenchmark, write_predictions

from zeroseg_jax import Predictor
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.baselines import ChanceSegmenter
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.inference import batches, presets
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.label_rules import build_rule
from zeroseg_jax.inference.model import load
from zeroseg_jax.inference.scoring import Encoded
from zeroseg_jax.inference.segmenters import ModelSegmenter

PRESET = {"background_words": "grass; sky", "refine": "none"}


def playground_preset(**changes):
    return presets.get_preset("zeroseg", "playground/things", {**PRESET, **changes})


ASKED = [["star"], ["ring", "hoop"]]


@pytest.fixture(scope="module")
def student():
    return load("playground")


@pytest.fixture(scope="module")
def segmenter(student):
    return ModelSegmenter(student)


@pytest.fixture(scope="module")
def classes(student):
    return embed_class_names(student.teacher, ASKED, playground_preset())


def predict(segmenter, classes, folder, preset, batch):
    result = runner.evaluate(
        segmenter, SmallBenchmark(), preset, checkpoint="c", output=folder, batch=batch,
        classes=classes, save_predictions=True, panels=0, log=lambda line: None,
    )  # fmt: skip
    maps = [np.asarray(Image.open(path)) for path in sorted((folder / "predictions").iterdir())]
    return result, maps


def test_no_batch_and_no_number_of_devices_changes_a_pixel(student, segmenter, classes, tmp_path):
    preset = playground_preset()
    eight = ModelSegmenter(student, devices=jax.devices())
    assert (segmenter.windows_per_call, eight.windows_per_call) == (1, 8)
    runs = [
        predict(model, classes, tmp_path / str(i), preset, batch)
        for i, (model, batch) in enumerate(
            ((segmenter, 1), (segmenter, 4), (segmenter, 8), (eight, 1), (eight, 8))
        )
    ]
    result, maps = runs[0]
    assert len(np.unique(np.concatenate([m.ravel() for m in maps]))) > 1
    for other, others in runs[1:]:
        assert all((a == b).all() for a, b in zip(maps, others, strict=True))
        assert other["per_class_iou"] == result["per_class_iou"]
    stored = json.loads((tmp_path / "0" / "report.json").read_text())
    assert stored["preset"] == json.loads(json.dumps(dataclasses.asdict(preset)))
    assert stored["model"]["mean"]
    # And as one image alone gives.
    alone, _, _ = runner.segment_image(segmenter, SmallBenchmark()[3]["image"], classes, preset)
    np.testing.assert_array_equal(alone, maps[3])


def test_incomplete_calls_are_padded_and_the_padding_dropped(segmenter, classes, tmp_path):
    preset = playground_preset(window="sliding")
    result = {}
    for per_call in (1, 3):
        calls = []

        class Several:
            """The student, three windows a call."""

            image_px, patch_px = segmenter.image_px, segmenter.patch_px
            logit_scale, describe = segmenter.logit_scale, staticmethod(segmenter.describe)
            checksum, seen_names = staticmethod(segmenter.checksum), segmenter.seen_names
            windows_per_call = per_call

            def encode(self, windows, calls=calls):
                calls.append(len(windows))
                parts = [segmenter.encode(windows[i : i + 1]) for i in range(len(windows))]
                return Encoded(*(np.concatenate(x) for x in zip(*parts, strict=True)))

            def score(self, encoded, classes, preset):
                return segmenter.score(encoded, classes, preset)

        result[per_call] = runner.evaluate(
            Several(), SmallBenchmark(4), preset, checkpoint="c", output=tmp_path / str(per_call),
            classes=classes, batch=6, panels=0, log=lambda line: None,
        )  # fmt: skip
        assert set(calls) == {per_call}
    assert result[1]["per_class_iou"] == result[3]["per_class_iou"]
    laid_out = (
        batches.resize_and_lay_out(item["image"], preset, segmenter)
        for item in SmallBenchmark(4).items
    )
    count = sum(len(image.rows) for image in laid_out)
    assert count % 3 and len(calls) == -(-count // 3)


def test_evaluation_and_predictor_give_the_same_labels(student, segmenter):
    """One pipeline: on a 4:3 image, refined and not, the very same pixels."""
    image = scenes.render(scenes.build_scene(2, 5), 128)[0][:96]
    names = ["star", "ring", "heart", "grass", "sky"]
    for changes in ({}, {"refine": "none"}):
        preset = presets.get_preset("zeroseg", "playground/full", changes)
        vectors = embed_class_names(student.teacher, [[name] for name in names], preset)
        mine = runner.segment_image(segmenter, image, vectors, preset)
        theirs = Predictor(student, preset).segment(image, names)
        np.testing.assert_array_equal(mine.labels, theirs.mask)
        np.testing.assert_array_equal(mine.scores, theirs.scores)
        assert len(np.unique(mine.segment_ids)) == len(np.unique(theirs.segments))


def test_a_segmenter_needs_class_vectors(segmenter, tmp_path):
    with pytest.raises(ValueError, match="classes: a segmenter needs the class vectors"):
        runner.evaluate(
            segmenter, SmallBenchmark(1), playground_preset(), checkpoint="c", output=tmp_path
        )


@pytest.mark.parametrize("bits", [8, 16])
def test_predictions_of_another_tool(tmp_path, bits):
    pictures = SmallBenchmark()
    write_predictions(tmp_path / "maps", pictures, bits)
    result = runner.evaluate(
        PredictionFolder(tmp_path / "maps"), pictures, playground_preset(), checkpoint="other",
        output=tmp_path / "out", log=lambda line: None,
    )  # fmt: skip
    assert result["miou"] == 100 and result["preset"] is None
    assert result["affected"]["images_with_ignored_pixels"] == 5
    ignored = sum((item["label"] == -1).sum() for item in pictures.items)
    assert result["affected"]["ignored_pixels"] == ignored
    assert result["boundary_miou"] == pytest.approx(100, abs=8)  # ignored pixels have outlines
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/jpeg;base64," in page and "<script" not in page and "http" not in page
    for kind in ("best", "median", "worst"):
        assert f"{kind}: picture-" in page or kind != "best"


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda maps, p: (maps / "picture-2.png").unlink(), "picture-2.png: missing"),
        (
            lambda maps, p: (maps / "picture-2.png").write_bytes(b"x"),
            "picture-2.png: not an image file",
        ),
        (
            lambda maps, p: Image.new("RGB", (9, 9)).save(maps / "picture-2.png"),
            "picture-2.png: mode RGB has colours",
        ),
        (
            lambda maps, p: Image.new("L", (9, 8)).save(maps / "picture-2.png"),
            "picture-2: the mask is 96 x 136 px but the prediction 9 x 8 px",
        ),
        (
            lambda maps, p: Image.new("L", (96, 136), 7).save(maps / "picture-2.png"),
            "picture-2: the prediction holds 7",
        ),
        (
            lambda maps, p: p.items[1].update(label=np.zeros((5, 5), np.int32)),
            "picture-1: the image is 157 x 116 px, but its mask 5 x 5 px",
        ),
        (
            lambda maps, p: p.items[1]["label"].__setitem__((0, 0), 255),
            "picture-1: the mask holds 255 .1 pixels",
        ),
        (lambda maps, p: p.items.clear(), "small: the split has no image"),
    ],
)
def test_bad_pictures_masks_and_predictions_are_named(tmp_path, break_it, sentence):
    pictures = SmallBenchmark()
    write_predictions(tmp_path / "maps", pictures)
    break_it(tmp_path / "maps", pictures)
    with pytest.raises(ValueError, match=sentence):
        runner.evaluate(
            PredictionFolder(tmp_path / "maps"), pictures, playground_preset(), checkpoint="o",
            output=tmp_path / "out", panels=0, log=lambda line: None,
        )  # fmt: skip


def test_extreme_images_are_scored_and_reported(classes, tmp_path):
    pictures = SmallBenchmark(2)
    pictures.items[1] = {
        "image": np.zeros((3, 400, 3), np.uint8),
        "label": np.full((3, 400), -1, np.int32),
        "name": "thread",
    }
    said = []
    result = runner.evaluate(
        ChanceSegmenter(96), pictures, playground_preset(), checkpoint="c", output=tmp_path,
        classes=classes, log=said.append,
    )  # fmt: skip
    assert result["affected"]["images_stretched"] == 1
    assert result["affected"]["images_without_a_counted_pixel"] == 1
    assert any("thread: longer than the protocol's limit" in line for line in said)
    assert any("thread: every pixel is ignored" in line for line in said)


def test_every_name_belongs_to_its_class_and_the_last_ones_to_the_background(student):
    preset = presets.get_preset("sclip", "voc21", {"background_words": "sky;wall"})
    vectors = embed_class_names(student.teacher, ASKED, preset)
    rule = build_rule(preset, vectors, 40.0)
    assert rule.class_ids.tolist() == [1, 2, 2, 0, 0] and rule.softmax_scale == 40
