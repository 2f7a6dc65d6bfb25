"""Image-adaptive vocabulary against a slow definition, and through the labelling of an image."""

import dataclasses
import math

import numpy as np
import pytest

from zeroseg_jax.inference import canvas, label_rules, labelling
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import Scored
from zeroseg_jax.inference.vocabulary import find_supported
from zeroseg_jax.inference.windows import Layout


def define_kept(patches, class_ids, scale, share, has_background):
    """The definition, place by place and class by class, in float64."""
    places = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
    probabilities = []
    for place in places:
        values = [math.exp(scale * value) for value in place] if scale else list(place)
        total = sum(values) if scale else 1.0
        by_class = {}
        for number, value in zip(class_ids, values, strict=True):
            by_class[number] = max(by_class.get(number, 0.0), value / total)
        probabilities.append(by_class)
    first = int(has_background)
    support = {}
    for number in range(max(class_ids) + 1):
        column = sorted((one.get(number, 0.0) for one in probabilities), reverse=True)
        best = column[: max(1, round(0.05 * len(column)))]
        support[number] = math.sqrt((sum(column) / len(column)) * (sum(best) / len(best)))
    most = max(value for number, value in support.items() if number >= first)
    kept = {number for number, value in support.items() if value >= share * most}
    wins = [
        max((n for n in one if n >= first), key=lambda n, one=one: one[n]) for one in probabilities
    ]
    return kept | {max(set(wins), key=wins.count)} | set(range(first))


@pytest.mark.parametrize("scale", [0.0, 20.0])
@pytest.mark.parametrize("has_background", [False, True])
def test_kept_classes_are_the_definition(scale, has_background):
    rng = np.random.default_rng(int(scale) + has_background)
    class_ids = np.array([1, 1, 2, 3, 4, 5, 0, 0]) if has_background else np.arange(8)
    sizes = set()
    for share in (0.05, 0.3, 0.6, 0.9, 1.0):
        patches = rng.random((9, 11, 8)).astype(np.float32) ** 3
        patches[..., 2] *= 0.3
        found = find_supported(
            patches, class_ids, share, softmax_scale=scale, has_background=has_background
        )
        kept = define_kept(patches, class_ids.tolist(), scale, share, has_background)
        assert set(np.flatnonzero(found).tolist()) == kept
        sizes.add(len(kept))
    assert len(sizes) > 1


def test_rows_that_are_forbidden_stay_so():
    rule = LabelRule(np.array([1, 1, 2, 0]), allowed=np.array([True, False, True, True]))
    stricter = label_rules.forbid(rule, np.array([False, False, True]))
    assert stricter.allowed.tolist() == [True, False, False, True]


@pytest.mark.parametrize("dense", [True, False])
def test_a_preset_field_changes_every_kind_of_segmenter(dense):
    """A class that wins one patch by little, and nothing else in the image, is not named."""
    table = np.full((1, 16, 3), 0.1, np.float32)
    table[0, :, 0] = 0.6
    table[0, 5] = (0.1, 0.1, 0.8)
    ids = None if dense else np.arange(16).reshape(1, 4, 4).repeat(4, axis=1).repeat(4, axis=2)
    layout = Layout(16, 16, (16, 16), [0], [0])
    merged = canvas.merge(layout, Scored(table, ids), 4, 3)
    changes = {"naming": "segments", "image_filter": "none", "refine": "none"}
    preset = get_preset("sclip", "voc20", {**changes, "names": "mean"})
    rule = LabelRule(np.arange(3))
    labels = labelling.label_image(merged, (16, 16), rule, preset, None).labels
    assert set(np.unique(labels)) == {0, 2}
    restricted = dataclasses.replace(preset, vocabulary_share=0.7)
    labels = labelling.label_image(merged, (16, 16), rule, restricted, None).labels
    assert set(np.unique(labels)) == {0}


def test_the_share_is_a_fraction():
    assert get_preset("sclip", "voc20", {"vocabulary_share": "0.3"}).vocabulary_share == 0.3
    with pytest.raises(ValueError, match="vocabulary_share 1.5 is outside"):
        get_preset("sclip", "voc20", {"vocabulary_share": "1.5"})
