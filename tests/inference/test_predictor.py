"""The Python API: the protocol's pixels, any input, one sentence for what cannot be."""

import concurrent.futures
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax import Predictor
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.data.transforms import ImageError, to_image
from zeroseg_jax.evaluation import runner
from zeroseg_jax.inference import model as build
from zeroseg_jax.inference.class_names import parse_classes, to_classes
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmentation import Segmentation
from zeroseg_jax.teacher.load import SHIPPED

ROOT = Path(__file__).parent.parent
WORDS = ["star", "ring", "heart", "grass", "sky"]


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained()


@pytest.fixture(scope="module")
def scene():
    return scenes.render(scenes.build_scene(2, 5), 160)[0]


def evaluate(image, overrides):
    preset = get_preset("zeroseg", "playground/full", overrides)
    student = build.load_student("playground")
    segmenter = build.build_student_segmenter(student, [[word] for word in WORDS], preset)
    return runner.segment_image(segmenter, image, preset)


def test_pixels_are_those_of_the_evaluation(scene):
    overrides = {"pamr_dilations": "", "window_px": "64"}
    labels, scores, segments = evaluate(scene[:, :130], overrides)
    mine = Predictor.from_pretrained(settings=overrides).segment(scene[:, :130], WORDS)
    # The same numbers by another way of enlarging: only ties may fall differently.
    assert (mine.mask == labels).mean() > 0.9995
    np.testing.assert_allclose(mine.scores, scores, atol=1e-5)
    assert len(np.unique(mine.segments)) == len(np.unique(segments))


def test_refinement_is_that_of_the_evaluation(predictor):
    # At a size whose grid is the evaluation's own, refined pixels agree too.
    image = scenes.render(scenes.build_scene(2, 7), 96)[0]
    labels, scores, _ = evaluate(image, {})
    mine = predictor.segment(image, WORDS)
    assert (mine.mask == labels).mean() > 0.9995
    np.testing.assert_allclose(mine.scores, scores, atol=1e-4)
    plain = predictor.segment(image, WORDS, refine=False)
    assert (plain.mask != mine.mask).any()


def test_any_input_is_the_same_picture(predictor, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "a.png")
    want = predictor.segment(scene, WORDS, refine=False)
    opaque = np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])
    inputs = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(scene), opaque,
              scene.astype(np.float32) / 255]  # fmt: skip
    for given, got in zip(inputs, predictor.segment(inputs, WORDS, refine=False), strict=True):
        assert (got.mask == want.mask).all(), type(given)
    assert predictor.segment(inputs[1], WORDS, refine=False).source == str(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (411, 97)])
def test_any_size_comes_back_at_its_own(predictor, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = predictor.segment(image, WORDS, refine=False)
    assert result.mask.shape == result.scores.shape == result.segments.shape == size
    assert sum(result.areas.values()) == pytest.approx(1, abs=1e-4)


def test_a_program_for_a_shape_and_not_for_a_size_or_words():
    predictor = Predictor.from_pretrained()
    program = predictor._cutter.run_student.func
    large = scenes.render(scenes.build_scene(2, 5), 400)[0]
    # All squares are one shape, so are pictures of 4:3, and long ones are cut into squares.
    for shapes, programs in (
        (((160, 160), (96, 96), (399, 400)), 1),
        (((300, 400), (60, 80), (151, 200)), 2),
        (((80, 400), (400, 90)), 2),
        (((400, 300),), 3),
    ):
        for height, width in shapes:
            for count in (1, 3):
                predictor.segment(large[:height, :width], WORDS[:count], refine=False)
        assert program._cache_size() == programs


def test_a_wide_picture_is_seen_whole_and_detail_still_cuts_it_up(predictor, scene):
    wide = scene[:120]
    (cut,) = predictor._cutter.cut([wide])
    assert cut.corners == ((0, 0),) and cut.laid_px == cut.owners.shape[1:] == (80, 112)
    assert predictor._cutter.cut([wide], detail=2)[0].owners.shape[1:] == (96, 96)
    windows = Predictor.from_pretrained(settings={"window_px": "0"})
    assert len(windows._cutter.cut([wide])[0].corners) == 2
    # A list of several shapes keeps its order.
    pictures = [wide, scene, scene[:, :120], wide[:, ::-1]]
    together = predictor.segment(pictures, WORDS, refine=False)
    for picture, result in zip(pictures, together, strict=True):
        assert (predictor.segment(picture, WORDS, refine=False).mask == result.mask).all()


def test_words_and_cuts_are_kept(predictor, scene, monkeypatch):
    asked = []
    encode = predictor._student.teacher.encode_texts
    monkeypatch.setattr(
        predictor._student.teacher, "encode_texts", lambda t: asked.append(t) or encode(t)
    )
    predictor._words_cache = None
    predictor._rows._entries.clear()
    predictor.segment(scene, WORDS[:3], refine=False)
    predictor.segment(scene, WORDS[:3][::-1], refine=False)
    assert len(asked) == 1
    predictor.segment(scene, WORDS[:4], refine=False)
    assert len(asked) == 2 and all("grass" in text for text in asked[1])
    monkeypatch.setattr(predictor._cutter, "run_student", None)  # would fail if it were called
    predictor.segment(scene, ["moon"], refine=False)


def test_threads_agree(predictor, scene):
    pictures = [np.roll(scene, 9 * i, axis=1) for i in range(8)]
    alone = predictor.segment(pictures, WORDS, refine=False)
    predictor.forget()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        both = list(pool.map(lambda p: predictor.segment(p, WORDS, refine=False), pictures * 2))
    for result, want in zip(both, alone * 2, strict=True):
        assert (result.mask == want.mask).all()


def test_background_is_a_threshold_or_words(predictor, scene):
    plain = predictor.segment(scene, WORDS[:3], refine=False)
    some = predictor.segment(scene, WORDS[:3], refine=False, background=0.7)
    assert some.words == ("background", *WORDS[:3])
    assert ((some.mask == 0) == (plain.scores < 0.7)).all() and 0 < (some.mask == 0).mean() < 1
    assert (some.mask[some.mask > 0] == plain.mask[some.mask > 0] + 1).all()
    behind = predictor.segment(scene, WORDS[:3], refine=False, background=["grass", "sky"])
    every = predictor.segment(scene, WORDS, refine=False)
    assert ((behind.mask == 0) == (every.mask > 2)).all()


def test_more_words_than_can_win_do_not_change_the_winners(predictor, scene):
    few = predictor.segment(scene, WORDS, refine=False)
    many = predictor.segment(scene, WORDS + [f"zzz{i}" for i in range(60)], refine=False)
    assert many.mask.max() < 65 and len(many.words) == 65
    named = [many.words[i] for i in np.unique(many.mask)]
    assert set(few.words[i] for i in np.unique(few.mask)) & set(named)


def test_detail_cuts_finer(predictor, scene):
    once = predictor.segment(scene, WORDS, refine=False)
    twice = predictor.segment(scene, WORDS, refine=False, detail=2)
    assert len(np.unique(twice.segments)) > len(np.unique(once.segments))
    for wrong in (0, 1.5, 1000):
        with pytest.raises(ValueError, match="detail: .* whole number between 1 and 21"):
            predictor.segment(scene, WORDS, detail=wrong)


def test_result_tells_draws_and_saves(predictor, scene, tmp_path):
    result = predictor.segment(scene, WORDS, refine=False)
    first = result.classes[0]
    assert repr(result).startswith(f"Segmentation of 160 x 160 px: {first['word']} ")
    assert list(result.areas)[0] == first["word"]
    assert result.overlay(legend=False).size == (160, 160)
    assert (np.asarray(result.overlay(0.0, legend=False)) == scene).mean() > 0.8
    paths = result.save(tmp_path / "new", "a")
    assert (np.asarray(Image.open(paths["mask"])) == result.mask).all()
    record = json.loads(paths["json"].read_text())
    assert [c["word"] for c in record["classes"]] == WORDS
    assert not list((tmp_path / "new").glob("*.part"))


def test_saved_model_is_the_same_model(tmp_path):
    clip = tmp_path / "some-clip"
    shutil.copytree(SHIPPED, clip)
    predictor = Predictor.from_pretrained(teacher=clip)
    predictor._facts["scores"] = [
        {"benchmark": "b", "miou": 1.5, "images": 2, "protocol": "p", "checkpoint": "c"}
    ]
    # The shipped student says its teacher ships too, so nothing is copied.
    predictor.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "teacher").exists()
    card = (tmp_path / "a" / "README.md").read_text()
    assert "16384 scenes of the Playground" in card and "| b | 1.50 | 2 | p | c |" in card
    assert predictor._student.teacher.digest[:16] in card
    again = Predictor.from_pretrained(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, again._student.params, predictor._student.params)
    assert again._facts["scores"] == predictor._facts["scores"]
    # A student of any other CLIP takes it along.
    record = json.loads((tmp_path / "a" / "config.json").read_text())
    record["config"]["teacher"]["directory"] = str(clip)
    (tmp_path / "a" / "config.json").write_text(json.dumps(record))
    Predictor.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    shutil.rmtree(clip)
    moved = Predictor.from_pretrained(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, moved._student.params, predictor._student.params)
    assert moved._student.teacher.directory == tmp_path / "b" / "teacher"
    assert moved._embed([["star"]]).shape == (1, 128)
    assert str(tmp_path) not in (tmp_path / "b" / "config.json").read_text()


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixel"),
        (np.full((4, 4, 3), np.nan, np.float32), "finite"),
        (np.full((4, 4, 3), 200.0), r"\[0, 1\]"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (None, "type NoneType is not accepted"),
        ("nowhere.png", "No such file"),
    ],
)
def test_pictures_that_are_none(picture, sentence):
    with pytest.raises(ImageError, match=sentence) as caught:
        to_image(picture)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no word"),
        ("", "no word"),
        ("a;;b", "blank"),
        (["a", ["b", " "]], "blank"),
        (["a", "a"], "a stands twice"),
        (["a", 3], "must be text"),
        (7, "int is no list"),
        (["a\x00b"], "control character"),
        (["x" * 201], "201 letters is longer than 200"),
        ([f"w{i}" for i in range(1001)], "1001 classes are more than 1000"),
        ("x" * 200_001, "letters are more than"),
    ],
)
def test_words_that_cannot_be(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_classes(words)


def test_words_as_text_and_lists():
    assert parse_classes("star; ring, hoop ;grass") == [["star"], ["ring", "hoop"], ["grass"]]
    assert to_classes(["star", ["ring", "hoop"]]) == [["star"], ["ring", "hoop"]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"background": 1.5}, "outside"),
        ({"background": "star"}, "star stands twice"),
        ({"background": ["grass", ""]}, "blank"),
    ],
)
def test_options_that_cannot_be(predictor, scene, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        predictor.segment(scene, WORDS[:2], **options)
    with pytest.raises(ValueError, match="background=THRESHOLD"):
        Predictor.from_pretrained(settings={"threshold": "0.5"})


def test_threshold_can_be_tried_without_the_model():
    scores = np.array([[0.2, 0.6], [0.9, 0.4]], np.float32)
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    image = np.zeros((2, 2, 3), np.uint8)
    result = Segmentation(image, mask, scores, mask, ("a", "b"), "m")
    assert result.with_background(0.5).mask.tolist() == [[0, 2], [2, 0]]
    assert result.with_background(0.5).with_background(0.7).mask.tolist() == [[0, 0], [2, 0]]
    assert result.with_background(0) is result
    assert result.areas == {"a": 0.5, "b": 0.5}


def test_importing_the_package_does_not_start_jax():
    code = """
import sys, zeroseg_jax, zeroseg_jax.inference.class_names
import zeroseg_jax.commands.segment, zeroseg_jax.inference.image_files
assert not {"jax", "flax", "transformers", "orbax"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
