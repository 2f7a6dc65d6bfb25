"""Every kind of model through Predictor, command line, page and export."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import small_clips
from PIL import Image

from tests import guards
from zeroseg_jax import Predictor
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.inference import stablehlo
from zeroseg_jax.inference.model import DEFAULT_READOUTS, choose_readout, load, load_readout
from zeroseg_jax.inference.web.models import Models
from zeroseg_jax.inference.web.sessions import Limits, Sessions
from zeroseg_jax.models.clip_zss.student import apply_dense, build_dense_student
from zeroseg_jax.teacher.aliases import ALIASES
from zeroseg_jax.teacher.load import SHIPPED
from zeroseg_jax.teacher.readouts import SINGLE_TOWER_READOUTS
from zeroseg_jax.teacher.towers import FAMILIES

ROOT = Path(__file__).parents[2]
CLASSES = ["star", "ring", "heart", "grass", "sky"]


@pytest.fixture(scope="module")
def scene():
    return scenes.render(scenes.build_scene(2, 5), 120)[0][:90]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Return the directory of each kind: an exported CLIP-ZSS student, a run of one, a CLIP."""
    run = guards.unpack_old_run(tmp_path_factory.mktemp("old") / "run")
    return {"export": guards.ARTIFACTS / "clip_zss_student", "run": run, "clip": SHIPPED}


@pytest.fixture(scope="module")
def predictors(places):
    return {
        name: Predictor.from_pretrained(place, cache_names=False) for name, place in places.items()
    }


@pytest.mark.parametrize("name", ["export", "run", "clip"])
def test_a_directory_is_known_by_its_files(predictors, name):
    model = predictors[name].model
    assert model.kind == ("readout" if name == "clip" else "clip_zss")
    assert model.readout == ("naclip" if name == "clip" else "")
    assert predictors[name].preset.window == "same_area"
    assert predictors[name].preset.naming == "pixels"


@pytest.mark.parametrize("name", ["export", "run", "clip"])
def test_dense_models_segment_any_image_with_any_class_names(predictors, scene, name):
    predictor = predictors[name]
    result = predictor.segment(scene, CLASSES)
    assert result.mask.shape == scene.shape[:2] and result.mask.max() < 5
    assert result.scores.min() >= 0 and result.scores.max() <= 1 + 1e-5
    assert (result.segments == result.mask).all() or len(np.unique(result.mask)) < 5
    encoded = predictor.segmenter._encode.count_signatures()
    fewer = predictor.segment(scene, CLASSES[:2])
    assert fewer.class_names == ("star", "ring")
    assert predictor.segmenter._encode.count_signatures() == encoded
    behind = predictor.segment(scene, CLASSES[:3], background=["grass", "sky"], refine=False)
    assert behind.class_names == ("background", *CLASSES[:3])
    every = predictor.segment(scene, CLASSES, refine=False)
    assert ((behind.mask == 0) == (every.mask > 2)).all()
    some = predictor.segment(scene, CLASSES, background=float(np.median(result.scores)))
    assert 0 < (some.mask == 0).mean() < 1
    detailed = predictor.segment(scene, CLASSES, detail=2)
    assert detailed.mask.shape == scene.shape[:2] and (detailed.mask != result.mask).any()


def test_a_dense_student_labels_patches_by_their_nearest_class(predictors):
    """Against NumPy: cosines of the student's own features, upsampled, then the best class."""
    predictor = predictors["export"]
    model, side = predictor.model, predictor.model.image_px
    image = scenes.render(scenes.build_scene(2, 7), side)[0]
    student = build_dense_student(model.config.model, model.config.clip_zss.student)
    mean, std = (np.array(v) for v in model.normalisation)
    pixels = ((image / 255 - mean) / std)[None].astype(np.float32)
    features = np.asarray(apply_dense(student, model.params, pixels))[0]
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    vectors = predictor.embedder.embed([[name] for name in CLASSES], []).vectors[: len(CLASSES)]
    cosines = features @ np.asarray(vectors).T
    wanted = jax.image.resize(cosines, (side, side, len(CLASSES)), "bilinear")
    result = predictor.segment(image, CLASSES)
    assert (np.asarray(wanted.argmax(axis=-1)) == result.mask).mean() > 0.999
    e = np.exp(model.logit_scale * np.asarray(wanted, np.float64))
    np.testing.assert_allclose(result.scores, e.max(axis=-1) / e.sum(axis=-1), rtol=1e-3, atol=1e-5)


def test_every_read_out_has_its_own_labels(scene):
    masks = {}
    for readout in SINGLE_TOWER_READOUTS:
        predictor = Predictor.from_pretrained(SHIPPED, readout=readout, cache_names=False)
        masks[readout] = predictor.segment(scene, CLASSES).mask
        assert readout in repr(predictor)
    assert len({mask.tobytes() for mask in masks.values()}) == len(SINGLE_TOWER_READOUTS)


def test_a_class_of_a_read_out_is_scored_by_its_best_name(predictors, scene):
    apart = predictors["clip"].segment(scene, ["star", "ring", "sky", "grass"], refine=False)
    together = predictors["clip"].segment(scene, ["star", ["ring", "sky"], "grass"], refine=False)
    np.testing.assert_array_equal(np.array([0, 1, 1, 2])[apart.mask], together.mask)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": SHIPPED, "readout": "nothing"}, "'nothing' is not one of raw, maskclip"),
        ({"name": SHIPPED, "teacher": str(SHIPPED)}, "is a CLIP itself"),
        ({"name": "playground", "readout": "raw"}, "playground is not a CLIP"),
        ({"name": ROOT}, "neither a work directory"),
        ({"name": "nowhere"}, "'nowhere' is no folder and no known name"),
    ],
)
def test_names_that_are_no_model(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(**arguments)


def test_defaults_cover_both_families():
    assert set(DEFAULT_READOUTS) == {name for name, family in FAMILIES.items() if family.text}
    assert set(DEFAULT_READOUTS.values()) <= set(SINGLE_TOWER_READOUTS)


@pytest.mark.parametrize(
    ("family", "depth", "readout"),
    [("clip", 12, "scclip"), ("metaclip_2", 24, "scclip"), ("clip", 4, "naclip"),
     ("clip", 32, "naclip"), ("siglip", 12, "maskclip"), ("siglip", 27, "maskclip"),
     ("tipsv2", 24, "maskclip")],
)  # fmt: skip
def test_scclip_is_the_default_at_the_depths_that_it_was_published_for(family, depth, readout):
    tower = dataclasses.replace(small_clips.CONFIG.vision, depth=depth)
    config = dataclasses.replace(small_clips.CONFIG, vision=tower, family=family)
    assert choose_readout(config) == readout


def test_the_shipped_clip_has_four_blocks_and_another_default():
    assert load_readout("playground").readout == "naclip"


def test_an_alias_has_the_default_of_its_family():
    families = {"siglip2": "siglip", "tipsv2": "tipsv2"}
    for name, alias in ALIASES.items():
        if alias.readout:
            family = families.get(name.partition("-")[0], "clip")
            assert alias.readout == DEFAULT_READOUTS[family], name


def test_a_frozen_model_is_saved_with_its_clip(predictors, scene, tmp_path):
    predictors["clip"].save_pretrained(tmp_path / "whole")
    again = Predictor.from_pretrained(tmp_path / "whole", cache_names=False)
    assert again.model.teacher.directory == tmp_path / "whole" / "teacher"
    want, got = (p.segment(scene, CLASSES) for p in (predictors["clip"], again))
    np.testing.assert_array_equal(want.mask, got.mask)
    # A local folder has no name by which another machine could fetch it.
    predictors["clip"].save_pretrained(tmp_path / "name", include_teacher=False)
    record = json.loads((tmp_path / "name" / "config.json").read_text())
    assert record["teacher"]["name"] == "" and str(SHIPPED) not in json.dumps(record)
    with pytest.raises(ValueError, match="clip is not inside; export again"):
        load(tmp_path / "name")
    assert load(tmp_path / "name", teacher=SHIPPED).readout == "naclip"
    other = small_clips.save(tmp_path / "other", small_clips.random_tensors())
    with pytest.raises(ValueError, match="is not the CLIP of .*name"):
        load(tmp_path / "name", teacher=other)


def test_only_the_playgrounds_models_know_no_photograph(predictors, tmp_path):
    other = load(small_clips.save(tmp_path / "other", small_clips.random_tensors()))
    assert other.knows_photographs
    assert other.describe(other.get_preset())["note"] == ""
    for predictor in predictors.values():
        assert not predictor.model.knows_photographs
        assert "drawn shapes" in predictor.model.describe(predictor.preset)["note"]


@pytest.mark.parametrize("name", ["run", "clip"])
def test_segment_writes_files_of_a_dense_model(places, scene, tmp_path, name):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    done = subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", "segment", "scene.png", "--classes=star; grass; sky",
         f"--model={places[name]}", "--output=out"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert [c["word"] for c in record["classes"]] == ["star", "grass", "sky"]
    mask = np.asarray(Image.open(tmp_path / "out" / "scene_mask.png"))
    assert mask.shape == scene.shape[:2]


@pytest.mark.parametrize("name", ["export", "clip"])
def test_the_page_serves_a_dense_model(predictors, scene, name):
    sessions = Sessions(Models([name], predictors.__getitem__), Limits())
    buffer = io.BytesIO()
    Image.fromarray(scene).save(buffer, "PNG")
    token = sessions.upload(buffer.getvalue(), 0)["picture"]
    image, options = sessions.read({"picture": token, "words": "star; grass", "background": "sky"})
    assert sessions.maps(image, options)["words"] == ["background", "star", "grass"]
    want = predictors[name].segment(scene, ["star", "grass"], background="sky")
    assert sessions.record(image, options)["classes"] == want.to_record()["classes"]
    mask = np.asarray(Image.open(io.BytesIO(sessions.mask(image, options))))
    np.testing.assert_array_equal(mask, want.mask)


@pytest.mark.parametrize("name", ["export", "clip"])
def test_stablehlo_of_a_dense_model(predictors, tmp_path, name):
    model = predictors[name].model
    record = stablehlo.export_stablehlo(model, [["star"], ["ring", "hoop"]], tmp_path)
    assert record["largest_difference"] <= 1e-4
    side = model.image_px
    grid = side // model.patch_px
    program = jax.export.deserialize(bytearray((tmp_path / stablehlo.MODEL).read_bytes()))
    words = np.load(tmp_path / stablehlo.WORDS)
    image = scenes.render(scenes.build_scene(2, 7), side)[0].astype(np.float32)
    scores, features = program.call(np.stack([image, image]), words["text"])
    assert scores.shape == (2, grid, grid, 2) and features.shape == (2, grid, grid, 128)
    # Other class names need no second pass: features are unit vectors.
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), 1, atol=1e-5)
    scale = predictors[name].preset.logit_scale or model.logit_scale
    e = np.exp(scale * np.asarray(features, np.float64) @ words["text"].T)
    np.testing.assert_allclose(scores, e / e.sum(axis=-1, keepdims=True), atol=1e-4)
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "scene.png")
    done = subprocess.run(
        [sys.executable, "run.py", "scene.png", "mask.png"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "XLA_FLAGS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.asarray(Image.open(tmp_path / "mask.png")).shape == (side, side)


def test_a_drawn_clip_has_background_words_when_asked(predictors, scene):
    for predictor in predictors.values():
        assert predictor.read_background(None, [["dog"]]) == (0, [])
    result = predictors["clip"].segment(scene, "star", background="auto")
    assert result.class_names == ("background", "star") and result.mask.max() <= 1
    assert result.note and result.to_record()["model"]["preset"]["refine"] == "guided"
