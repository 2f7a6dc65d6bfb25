"""Whole evaluations: the same at any batch and device count, and every bad input is a sentence."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image
from small_benchmark import SmallBenchmark, write_predictions

from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.label_maps import PredictionFolder
from zeroseg_jax.inference import batches as stream
from zeroseg_jax.inference import model as build
from zeroseg_jax.inference import presets, segmenters

PRESET = {"background_words": "grass; sky", "pamr_dilations": ""}


def playground_preset(**changes):
    return presets.get_preset("zeroseg", "playground/things", {**PRESET, **changes})


ASKED = [["star"], ["ring", "hoop"]]


@pytest.fixture(scope="module")
def student():
    return build.load_student("playground")


@pytest.fixture(scope="module")
def segmenter(student):
    return build.build_student_segmenter(student, ASKED, playground_preset())


def predict(segmenter, folder, preset, batch):
    result = runner.evaluate(
        segmenter, SmallBenchmark(), preset, checkpoint="c", output=folder, batch=batch,
        save_predictions=True, pictures=0, log=lambda line: None,
    )  # fmt: skip
    maps = [np.asarray(Image.open(path)) for path in sorted((folder / "predictions").iterdir())]
    return result, maps


def test_no_batch_and_no_number_of_devices_changes_a_pixel(student, segmenter, tmp_path):
    preset = playground_preset()
    eight = build.build_student_segmenter(student, ASKED, preset, devices=jax.devices())
    assert (segmenter.unit, eight.unit) == (1, 8)
    runs = [
        predict(model, tmp_path / str(i), preset, batch)
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
    # And as the single picture says.
    alone, _, _ = runner.segment_image(segmenter, SmallBenchmark()[3]["image"], preset)
    np.testing.assert_array_equal(alone, maps[3])


def test_incomplete_units_are_padded_and_the_padding_dropped(segmenter, tmp_path):
    preset = playground_preset()
    result = {}
    for unit in (1, 3):
        calls = []

        class Units:
            native_px, patch_px, facts = segmenter.native_px, segmenter.patch_px, {}
            rule = segmenter.rule

            def score(self, windows, calls=calls):
                calls.append(len(windows))
                parts = [segmenter.score(windows[i : i + 1]) for i in range(len(windows))]
                return type(parts[0])(*(np.concatenate(x) for x in zip(*parts, strict=True)))

        Units.unit = unit
        result[unit] = runner.evaluate(
            Units(), SmallBenchmark(4), preset, checkpoint="c", output=tmp_path / str(unit),
            batch=6, pictures=0, log=lambda line: None,
        )  # fmt: skip
        assert set(calls) == {unit}
    assert result[1]["per_class_iou"] == result[3]["per_class_iou"]
    cuts = (
        stream.cut_picture(item["image"], preset, segmenter) for item in SmallBenchmark(4).items
    )
    count = sum(len(cut.scored) for cut in cuts)
    assert count % 3 and len(calls) == -(-count // 3)


def test_dense_read_outs_run_under_their_presets(student):
    image = SmallBenchmark()[1]["image"]
    found = {}
    for readout, name in (("raw", "sclip"), ("maskclip", "groupvit"), ("sclip", "sclip"),
                          ("clearclip", "clearclip"), ("naclip", "naclip")):  # fmt: skip
        changes = {"short_side_px": "96", "stride_px": "48", "pamr_dilations": "", "words_file": ""}
        if name != "naclip":  # which sees VOC's pictures in one piece
            changes["window_px"] = "96"
        preset = presets.get_preset(name, "voc20", changes)
        model = build.build_baseline(
            f"dense:{readout}", student.teacher, [*ASKED, ["moon"]], preset, False
        )
        labels, scores, _ = runner.segment_image(model, image, preset)
        assert labels.shape == image.shape[:2] and 0 <= labels.min() <= labels.max() <= 2
        # Weights of a mean in float32 sum to 1 within some ulps.
        assert 0 < scores.min() <= scores.max() <= 1 + 1e-5
        found[readout] = scores
    assert not np.allclose(found["raw"], found["sclip"])


def test_chance_depends_on_the_picture_alone():
    chance = segmenters.ChanceSegmenter(4, True, 96)
    preset = playground_preset()
    first, second = (SmallBenchmark()[i]["image"] for i in (0, 1))
    before = runner.segment_image(chance, first, preset)[0]
    runner.segment_image(chance, second, preset)
    np.testing.assert_array_equal(runner.segment_image(chance, first, preset)[0], before)


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
            "picture-2.png: not a readable PNG",
        ),
        (
            lambda maps, p: Image.new("RGB", (9, 9)).save(maps / "picture-2.png"),
            "picture-2.png: its pixels are RGB",
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
        (lambda maps, p: p.items.clear(), "small: the split holds no image"),
    ],
)
def test_bad_pictures_masks_and_predictions_are_named(tmp_path, break_it, sentence):
    pictures = SmallBenchmark()
    write_predictions(tmp_path / "maps", pictures)
    break_it(tmp_path / "maps", pictures)
    with pytest.raises(ValueError, match=sentence):
        runner.evaluate(
            PredictionFolder(tmp_path / "maps"), pictures, playground_preset(), checkpoint="o",
            output=tmp_path / "out", pictures=0, log=lambda line: None,
        )  # fmt: skip


def test_extreme_pictures_are_scored_and_told(tmp_path):
    pictures = SmallBenchmark(2)
    pictures.items[1] = {
        "image": np.zeros((3, 400, 3), np.uint8),
        "label": np.full((3, 400), -1, np.int32),
        "name": "thread",
    }
    chance = segmenters.ChanceSegmenter(2, True, 96)
    said = []
    result = runner.evaluate(
        chance, pictures, playground_preset(), checkpoint="c", output=tmp_path, log=said.append
    )
    assert result["affected"]["images_stretched"] == 1
    assert result["affected"]["images_without_a_counted_pixel"] == 1
    assert any("thread: longer than the protocol's limit" in line for line in said)
    assert any("thread: every pixel is ignored" in line for line in said)


def test_every_name_belongs_to_its_class_and_the_last_ones_to_the_background():
    preset = presets.get_preset("sclip", "voc21", {"background_words": "sky;wall"})
    owners = build.list_owners(ASKED, preset)
    rule = segmenters.build_rule(preset, 40.0, 5, owners)
    assert rule.labels.tolist() == [1, 2, 2, 0, 0] and rule.softmax_scale == 40
