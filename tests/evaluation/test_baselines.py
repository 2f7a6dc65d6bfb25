"""Baselines by name: every read-out under its preset, and chance."""

import numpy as np
import pytest
from small_benchmark import SmallBenchmark

from zeroseg_jax.evaluation.baselines import ChanceSegmenter, build_baseline
from zeroseg_jax.evaluation.runner import segment_image
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.teacher.load import load_teacher

NAMES = [["star"], ["ring", "hoop"], ["moon"]]


@pytest.fixture(scope="module")
def clip():
    return load_teacher("playground")


def test_read_outs_run_under_their_presets(clip):
    image = SmallBenchmark()[1]["image"]
    found = {}
    for readout, name in (("raw", "sclip"), ("maskclip", "groupvit"), ("sclip", "sclip"),
                          ("clearclip", "clearclip"), ("naclip", "naclip")):  # fmt: skip
        changes = {"short_side_px": "96", "stride_px": "48", "refine": "none", "words_file": ""}
        if name != "naclip":  # one window over an image of VOC
            changes["window_px"] = "96"
        preset = get_preset(name, "voc20", changes)
        model = build_baseline(f"dense:{readout}", clip, preset)
        classes = embed_class_names(clip, NAMES, preset)
        labels, scores, _ = segment_image(model, image, classes, preset)
        assert labels.shape == image.shape[:2] and 0 <= labels.min() <= labels.max() <= 2
        # Weights of a mean in float32 sum to 1 within some ulps.
        assert 0 < scores.min() <= scores.max() <= 1 + 1e-5
        found[readout] = scores
    assert not np.allclose(found["raw"], found["sclip"])


@pytest.mark.parametrize("name", ["dense:nothing", "densely", "maskclip", ""])
def test_other_names_are_refused(clip, name):
    with pytest.raises(ValueError, match="is not one of dense:raw, .*, chance, predictions:DIR"):
        build_baseline(name, clip, get_preset("sclip", "voc20"))


@pytest.mark.parametrize("background", ["", "grass; sky"])
def test_chance_depends_on_the_image_alone(clip, background):
    preset = get_preset(
        "zeroseg", "playground/full", {"background_words": background, "refine": "none"}
    )
    chance, classes = ChanceSegmenter(96), embed_class_names(clip, NAMES, preset)
    first, second = (SmallBenchmark()[i]["image"] for i in (0, 1))
    before = segment_image(chance, first, classes, preset)
    assert set(np.unique(before.labels)) == set(range(3 + bool(background)))
    segment_image(chance, second, classes, preset)
    np.testing.assert_array_equal(
        segment_image(chance, first, classes, preset).labels, before.labels
    )
