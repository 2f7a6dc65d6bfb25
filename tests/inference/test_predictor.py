"""Predictor: caches, compilations, inputs, backgrounds, every kind of model, and its errors."""

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
from zeroseg_jax.inference import pamr, scoring
from zeroseg_jax.inference.class_names import to_classes
from zeroseg_jax.inference.segmentation import Segmentation
from zeroseg_jax.teacher.load import SHIPPED

ROOT = Path(__file__).parent.parent
CLASSES = ["star", "ring", "heart", "grass", "sky"]


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("playground")


@pytest.fixture(scope="module")
def scene():
    return scenes.render(scenes.build_scene(2, 5), 160)[0]


def test_any_input_is_the_same_picture(predictor, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "a.png")
    want = predictor.segment(scene, CLASSES, refine=False)
    opaque = np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])
    inputs = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(scene), opaque,
              scene.astype(np.float32) / 255]  # fmt: skip
    for given, got in zip(inputs, predictor.segment(inputs, CLASSES, refine=False), strict=True):
        assert (got.mask == want.mask).all(), type(given)
    assert predictor.segment(inputs[1], CLASSES, refine=False).source == str(tmp_path / "a.png")


def test_files_are_segmented_one_after_the_other(predictor, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    Image.fromarray(scene[:, ::-1]).save(tmp_path / "c.png")
    unreadable = []
    for batch in (1, 2):
        found = list(predictor.segment_files(
            tmp_path, CLASSES, batch=batch, on_error=unreadable.append, refine=False
        ))  # fmt: skip
        assert [result.source for result in found] == [
            str(tmp_path / "a.png"), str(tmp_path / "c.png"),
        ]  # fmt: skip
        for result, image in zip(found, (scene, scene[:, ::-1]), strict=True):
            assert (result.mask == predictor(image, CLASSES, refine=False).mask).all()
    assert len(unreadable) == 2 and "b.png" in str(unreadable[0])
    with pytest.raises(ImageError, match=r"b\.png"):
        list(predictor.segment_files([tmp_path / "b.png"], CLASSES))
    with pytest.raises(ValueError, match="batch: 0 is less than 1"):
        predictor.segment_files(tmp_path, CLASSES, batch=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_names_the_same_pixels(predictor, scene, dtype):
    half = Predictor.from_pretrained("playground", dtype=dtype)
    want = predictor.segment(scene, CLASSES, refine=False)
    got = half.segment(scene, CLASSES, refine=False)
    assert 0 < np.abs(got.scores - want.scores).mean() < 0.01
    assert (got.mask == want.mask).mean() > 0.99
    with pytest.raises(ValueError, match="dtype: 'int8' is not one of float32, bfloat16, float16"):
        Predictor(predictor.model, dtype="int8")


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (411, 97)])
def test_any_size_comes_back_at_its_own(predictor, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = predictor.segment(image, CLASSES, refine=False)
    assert result.mask.shape == result.scores.shape == result.segments.shape == size
    assert sum(result.areas.values()) == pytest.approx(1, abs=1e-4)


def count_programs(predictor):
    return predictor.segmenter._encode.count_signatures(), scoring.score_windows.count_signatures()


def test_a_program_for_a_shape_and_not_for_a_size_or_class_names():
    predictor = Predictor.from_pretrained("playground")
    large = scenes.render(scenes.build_scene(2, 5), 400)[0]
    predictor.segment(large, CLASSES[:1], refine=False)
    _, scores = count_programs(predictor)
    # All squares are one shape, so are images of 4:3, and long ones are cut into squares.
    for shapes, programs in (
        (((160, 160), (96, 96), (399, 400)), 1),
        (((300, 400), (60, 80), (151, 200)), 2),
        (((80, 400), (400, 90)), 2),
        (((400, 300),), 3),
    ):
        for height, width in shapes:
            for count in (1, 3, 5):
                predictor.segment(large[:height, :width], CLASSES[:count], refine=False)
        assert count_programs(predictor) == (programs, scores)


@pytest.mark.slow
def test_guides_of_many_images_compile_few_times():
    predictor = Predictor.from_pretrained("playground", settings={"refine": "pamr"})
    before = pamr.refine_scores.count_signatures()
    large = scenes.render(scenes.build_scene(2, 5), 400)[0]
    for height, width in ((300, 400), (290, 400), (310, 400), (400, 300), (400, 310)):
        predictor.segment(large[:height, :width], CLASSES)
    # Guides of 224 x 288 and 224 x 320 px, whatever the orientation.
    assert pamr.refine_scores.count_signatures() <= before + 2


def test_a_wide_image_is_one_window_and_detail_still_lays_several(predictor, scene):
    wide = scene[:120]
    (encoded,) = predictor.encode([wide])
    assert encoded.layout == (80, 112, (80, 112), [0], [0], None)
    assert encoded.encoded.segment_ids.shape == (1, 80, 112)
    assert predictor.encode([wide], detail=2)[0].encoded.segment_ids.shape[1:] == (96, 96)
    sliding = Predictor.from_pretrained("playground", settings={"window": "sliding"})
    assert len(sliding.encode([wide])[0].encoded.features) == 2
    # A list of several shapes keeps its order; equal images are encoded once.
    images = [wide, scene, scene[:, :120], wide[:, ::-1], scene]
    together = predictor.segment(images, CLASSES, refine=False)
    for image, result in zip(images, together, strict=True):
        assert (predictor.segment(image, CLASSES, refine=False).mask == result.mask).all()


def test_class_names_and_encodings_are_cached(scene, monkeypatch):
    predictor = Predictor.from_pretrained("playground", cache_names=False)
    asked = []
    clip, calls = predictor.model.teacher, []
    encode_texts, encode = clip.encode_texts, predictor.segmenter.encode
    monkeypatch.setattr(clip, "encode_texts", lambda t: asked.append(t) or encode_texts(t))
    monkeypatch.setattr(predictor.segmenter, "encode", lambda w: calls.append(1) or encode(w))
    predictor.segment(scene, CLASSES[:3], refine=False)
    predictor.segment(scene, CLASSES[:3][::-1], refine=False)
    assert len(asked) == 1
    predictor.segment(scene, CLASSES[:4], refine=False)
    assert len(asked) == 2 and all("grass" in text for text in asked[1])
    predictor.segment(scene, ["moon"], refine=False)
    assert len(calls) == 1
    predictor.clear_cache()
    predictor.segment(scene, ["moon"], refine=False)
    assert len(calls) == 2


def test_threads_agree(predictor, scene):
    pictures = [np.roll(scene, 9 * i, axis=1) for i in range(8)]
    alone = predictor.segment(pictures, CLASSES, refine=False)
    predictor.clear_cache()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        both = list(pool.map(lambda p: predictor.segment(p, CLASSES, refine=False), pictures * 2))
    for result, want in zip(both, alone * 2, strict=True):
        assert (result.mask == want.mask).all()


def test_background_is_a_threshold_or_words(predictor, scene):
    plain = predictor.segment(scene, CLASSES[:3], refine=False)
    some = predictor.segment(scene, CLASSES[:3], refine=False, background=0.7)
    assert some.class_names == ("background", *CLASSES[:3])
    assert ((some.mask == 0) == (plain.scores < 0.7)).all() and 0 < (some.mask == 0).mean() < 1
    assert (some.mask[some.mask > 0] == plain.mask[some.mask > 0] + 1).all()
    behind = predictor.segment(scene, CLASSES[:3], refine=False, background=["grass", "sky"])
    every = predictor.segment(scene, CLASSES, refine=False)
    assert ((behind.mask == 0) == (every.mask > 2)).all()


def test_more_words_than_can_win_do_not_change_the_winners(predictor, scene):
    few = predictor.segment(scene, CLASSES, refine=False)
    many = predictor.segment(scene, CLASSES + [f"zzz{i}" for i in range(60)], refine=False)
    assert many.mask.max() < 65 and len(many.class_names) == 65
    named = [many.class_names[i] for i in np.unique(many.mask)]
    assert set(few.class_names[i] for i in np.unique(few.mask)) & set(named)


def test_detail_cuts_finer(predictor, scene):
    once = predictor.segment(scene, CLASSES, refine=False)
    twice = predictor.segment(scene, CLASSES, refine=False, detail=2)
    assert len(np.unique(twice.segments)) > len(np.unique(once.segments))
    for wrong in (0, 1.5, 1000):
        with pytest.raises(ValueError, match="detail: .* whole number between 1 and 21"):
            predictor.segment(scene, CLASSES, detail=wrong)


def test_result_tells_draws_and_saves(predictor, scene, tmp_path):
    result = predictor.segment(scene, CLASSES, refine=False)
    first = result.classes[0]
    assert repr(result).startswith(f"Segmentation of 160 x 160 px: {first['word']} ")
    assert list(result.areas)[0] == first["word"]
    assert result.overlay(legend=False).size == (160, 160)
    assert (np.asarray(result.overlay(0.0, legend=False)) == scene).mean() > 0.8
    paths = result.save(tmp_path / "new", "a")
    assert (np.asarray(Image.open(paths["mask"])) == result.mask).all()
    record = json.loads(paths["json"].read_text())
    assert [c["word"] for c in record["classes"]] == CLASSES
    assert not list((tmp_path / "new").glob("*.part"))


def test_saved_model_is_the_same_model(tmp_path):
    clip = tmp_path / "some-clip"
    shutil.copytree(SHIPPED, clip)
    predictor = Predictor.from_pretrained("playground", teacher=clip)
    predictor.model.facts["scores"] = [
        {"benchmark": "b", "miou": 1.5, "images": 2, "protocol": "p", "checkpoint": "c"}
    ]
    # The shipped student says its teacher ships too, so nothing is copied.
    predictor.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a" / "teacher").exists()
    card = (tmp_path / "a" / "README.md").read_text()
    assert "16384 scenes of the Playground" in card and "| b | 1.50 | 2 | p | c |" in card
    assert predictor.model.teacher.digest[:16] in card
    again = Predictor.from_pretrained(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, again.model.params, predictor.model.params)
    assert again.model.facts["scores"] == predictor.model.facts["scores"]
    # A student of any other CLIP takes it along.
    record = json.loads((tmp_path / "a" / "config.json").read_text())
    record["config"]["teacher"]["directory"] = str(clip)
    (tmp_path / "a" / "config.json").write_text(json.dumps(record))
    Predictor.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    shutil.rmtree(clip)
    moved = Predictor.from_pretrained(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, moved.model.params, predictor.model.params)
    assert moved.model.teacher.directory == tmp_path / "b" / "teacher"
    assert moved.embedder.embed([["star"]], []).vectors.shape[1] == 128
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
        ([], "no class name"),
        ("", "no class name"),
        (["a", ["b", " "]], "blank"),
        (["a", "a"], "a is given twice"),
        (["a", 3], "must be text"),
        (7, "int is not a list"),
        (["a\x00b"], "control character"),
        (["x" * 201], "201 letters is longer than 200"),
        ([f"w{i}" for i in range(1001)], "1001 classes are more than 1000"),
        ("x" * 200_001, "letters are more than"),
    ],
)
def test_words_that_cannot_be(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        to_classes(words)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"background": 1.5}, "outside"),
        ({"background": "star"}, "star is given twice"),
        ({"background": ["grass", ""]}, "blank"),
    ],
)
def test_options_that_cannot_be(predictor, scene, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        predictor.segment(scene, CLASSES[:2], **options)
    with pytest.raises(ValueError, match="background=THRESHOLD"):
        Predictor.from_pretrained("playground", settings={"threshold": "0.5"})


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
