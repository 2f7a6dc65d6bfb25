"""Scores to labels: rules, running argmax and refinement against plain NumPy."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from zeroseg_jax.inference import canvas, guide_image, label_rules, labelling
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.labelling import RunningArgmax
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import Scored, pack_classes
from zeroseg_jax.inference.windows import Layout

ROWS = 7


def test_softmax_over_names_then_the_best_name():
    """SCLIP's order: softmax over all names at a pixel, a class by its best name, a threshold."""
    rng = np.random.default_rng(1)
    scores = rng.random((50, ROWS)).astype(np.float32)
    class_ids = np.array([1, 1, 2, 3, 3, 0, 0])  # two names of the background, last
    rule = LabelRule(class_ids, softmax_scale=12.0, threshold=0.3)
    e = np.exp(12.0 * scores.astype(np.float64))
    probabilities = e / e.sum(axis=1, keepdims=True)
    by_class = np.stack([probabilities[:, class_ids == c].max(axis=1) for c in range(4)], axis=1)
    expected = np.where(by_class.max(axis=1) < 0.3, 0, by_class.argmax(axis=1))
    labels, best = labelling.rank(scores, rule)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(best, by_class.max(axis=1), rtol=2e-5)
    running = RunningArgmax(rule, (5, 10))
    for start in range(0, ROWS, 3):
        part = np.arange(start, min(start + 3, ROWS))
        for stripe in (np.s_[:2], np.s_[2:]):
            values = [scores[:, row].reshape(5, 10)[stripe].copy() for row in part]
            running.add(values, part, stripe)
    by_parts = running.finish()
    np.testing.assert_array_equal(by_parts[0].ravel(), labels)
    np.testing.assert_allclose(by_parts[1].ravel(), best, rtol=2e-6)


def test_the_first_of_equals_wins():
    running = RunningArgmax(LabelRule(np.arange(3)), (1, 2))
    same = np.full((1, 2), 0.5, np.float32)
    running.add([same, same, same], np.arange(3), np.s_[:])
    assert running.finish()[0].tolist() == [[0, 0]]
    assert labelling.rank(np.full((2, 3), 0.5, np.float32), LabelRule(np.arange(3)))[0].sum() == 0


def test_seen_classes_are_discounted_as_zegclip_does():
    """Sigmoid of every scaled cosine, 0.1 less for seen rows, then the best: pixel by pixel."""
    rng = np.random.default_rng(2)
    cosines = rng.uniform(-0.5, 0.9, (60, ROWS)).astype(np.float32)
    seen = np.array([True, True, False, True, False, False, True])
    rule = LabelRule(np.arange(ROWS), 14.3, seen=seen, seen_discount=0.1)
    expected, plain = [], []
    for values in cosines.astype(np.float64):
        scores = [1 / (1 + np.exp(-14.3 * v)) - 0.1 * s for v, s in zip(values, seen, strict=True)]
        expected.append(int(np.argmax(scores)))
        plain.append(int(np.argmax(values)))
    labels, best = labelling.rank(cosines, rule)
    assert labels.tolist() == expected != plain
    e = np.exp(14.3 * cosines.astype(np.float64))
    np.testing.assert_allclose(
        best, (e / e.sum(axis=1, keepdims=True))[np.arange(60), expected], rtol=2e-5
    )
    running = RunningArgmax(rule, (6, 10))
    for part in (np.arange(4), np.arange(4, ROWS)):
        running.add([cosines[:, row].reshape(6, 10).copy() for row in part], part, np.s_[:])
    np.testing.assert_array_equal(running.finish()[0].ravel(), labels)
    np.testing.assert_allclose(running.finish()[1].ravel(), best, rtol=2e-6)
    without = np.isin(np.arange(ROWS), (2, 4, 5))  # no unseen row may win
    only_seen = labelling.rank(cosines, label_rules.forbid(rule, without))[0]
    assert seen[only_seen].all()


def test_seen_rows_are_found_by_name():
    preset = get_preset("zss", "playground/zss", {"seen_discount": "0.1"})
    names = [["Sea Star", "star"], ["ring"], ["moon"]]
    classes = pack_classes(rows(2, 1, 1), names=names)
    rule = label_rules.build_rule(preset, classes, 14.3, frozenset({"seastar", "Moon"}))
    assert rule.seen.tolist() == [True, True, False, True] and rule.seen_discount == 0.1
    off = get_preset("zss", "playground/zss")
    assert label_rules.build_rule(off, classes, 14.3, frozenset({"moon"})).seen is None
    with pytest.raises(ValueError, match="seen_discount needs a CLIP-ZSS student and a class"):
        label_rules.build_rule(preset, classes, 14.3)


def test_small_classes_are_dropped():
    labels = np.array([[0] * 50 + [1] * 46 + [2] * 4])
    rule = LabelRule(np.array([1, 2, 0]), 10.0)
    stricter = label_rules.drop_small(labels, rule, 0.1)
    assert stricter.allowed.tolist() == [True, False, True]
    scores = np.array([[0.2, 0.9, 0.1]], np.float32)
    label, best = labelling.rank(scores, stricter)
    assert label[0] == 1
    # The forbidden row still takes its share of the probability.
    e = np.exp(10 * scores[0].astype(np.float64))
    assert best[0] == pytest.approx(e[0] / e.sum(), rel=1e-5)
    assert label_rules.drop_small(labels, rule, 0.01) is None


def rows(*counts):
    return [np.ones((count, 4), np.float32) for count in counts]


@pytest.mark.parametrize(
    ("preset", "changes", "counts", "background", "ids"),
    [
        # Probabilities of segments: a background column in front by name or by the window's rule.
        ("zeroseg", {}, (1, 1, 1), 0, [0, 1, 2]),
        ("zeroseg", {}, (1, 1, 1, 1), 2, [0, 1, 2]),
        ("groupvit", {"threshold": "0.5"}, (1, 1), 0, [0, 1, 2]),
        ("groupvit", {"threshold": "0.5", "threshold_rule": "constant"}, (1, 1), 0, [1, 2]),
        # Cosines at pixels: every name is a row.
        ("sclip", {}, (2, 1), 0, [0, 0, 1]),
        ("sclip", {"threshold": "0.3"}, (2, 1), 0, [1, 1, 2]),
        ("sclip", {}, (2, 1, 1, 2), 2, [1, 1, 2, 0, 0, 0]),
    ],
)
def test_rows_become_labels(preset, changes, counts, background, ids):
    classes = pack_classes(rows(*counts), background)
    rule = label_rules.build_rule(get_preset(preset, "folder", changes), classes, 40.0)
    assert rule.class_ids.tolist() == ids
    assert rule.has_background == bool(background or changes.get("threshold"))


@pytest.mark.parametrize("dilations", ["", "1;2"])
def test_refined_and_unrefined_images_have_the_same_rule(dilations):
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 255
    preset = get_preset("sclip", "voc21", {"pamr_dilations": dilations})
    right = np.broadcast_to(np.arange(16) >= 8, (1, 16, 16)).astype(int)
    table = np.array([[[0.9, 0.2, 0.1], [0.1, 0.12, 0.11]]], np.float32)
    merged = canvas.merge(Layout(16, 16, (16, 16), [0], [0]), Scored(table, right), 8, 3)
    rule = LabelRule(np.array([1, 2, 0]), 20.0, 0.5, has_background=True)
    guide = guide_image.build_guide(image, preset)
    assert (guide is None) == (not dilations)
    found = labelling.label_image(merged, (20, 20), rule, preset, guide)
    # To the right no row reaches 0.5.
    assert (found.labels[:, :9] == 1).all() and (found.labels[:, 12:] == 0).all()
    assert sorted(np.unique(found.segment_ids)) == [0, 1]


@pytest.mark.parametrize(
    ("size", "short", "guide"),
    [
        ((375, 500), "0", (375, 500)),
        ((375, 500), "224", (224, 288)),
        ((96, 96), "224", (96, 96)),
        ((1, 1), "224", (32, 32)),
        ((3, 700), "224", (32, 704)),
        ((1000, 4000), "0", (512, 2048)),
    ],
)
def test_guides_have_few_sizes(size, short, guide):
    numbers = {"refine": "pamr", "pamr_dilations": "1;2", "pamr_short_px": short}
    preset = get_preset("zeroseg", "playground/full", numbers)
    found = guide_image.build_guide(np.zeros((*size, 3), np.uint8), preset)
    assert found.shape == (*guide, 3) and found.dtype == np.uint8


def test_many_rows_do_not_change_the_refined_winner():
    """PAMR refines the likely rows alone; every segment's winner is among them."""
    rng = np.random.default_rng(0)
    changes = {"refine": "pamr", "pamr_dilations": "1", "pamr_short_px": "32"}
    preset = get_preset("zeroseg", "playground/full", changes)
    halves = np.broadcast_to(np.arange(32) >= 16, (1, 32, 32)).astype(np.uint8)
    table = rng.uniform(0.3, 0.4, (1, 2, 90)).astype(np.float32)
    table[0, 0, 70], table[0, 1, 3] = 0.8, 0.41  # less than many rows of the other half
    table[0, 0, 30:69] = 0.6
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 255
    merged = canvas.merge(Layout(32, 32, (32, 32), [0], [0]), Scored(table, halves), 8, 90)
    guide = guide_image.build_guide(image, preset)
    labels = labelling.label_image(merged, (32, 32), LabelRule(np.arange(90)), preset, guide).labels
    assert (labels[:, :14] == 70).all() and (labels[:, 18:] == 3).all()


def test_the_guided_filter_takes_the_image_and_leaves_no_small_component():
    rng = np.random.default_rng(5)
    preset = get_preset("frozen", "*")
    image = rng.integers(0, 256, (150, 200, 3)).astype(np.uint8)
    guide = guide_image.build_guide(image, preset)
    assert guide is image
    huge = np.broadcast_to(np.uint8(9), (300, 4096, 3))
    assert guide_image.build_guide(huge, preset).shape == (150, 2048, 3)
    assert guide_image.build_guide(image, dataclasses.replace(preset, refine="none")) is None
    table = rng.random((1, 48, 3)).astype(np.float32)
    merged = canvas.merge(Layout(48, 64, (48, 64), [0], [0]), Scored(table, None), 8, 3)
    np.testing.assert_array_equal(merged.patches(), table.reshape(6, 8, 3))
    twice = Scored(np.concatenate([table[:, :36], table[:, :36]]), None)
    over = canvas.merge(Layout(48, 56, (48, 48), [0], [0, 8]), twice, 8, 3)
    assert over.patches().shape == (6, 7, 3)
    for size in ((150, 200), (75, 100)):
        found = labelling.label_image(merged, size, LabelRule(np.arange(3), 20.0), preset, guide)
        assert found.labels.shape == size and len(np.unique(found.labels)) == 3
        for k in range(3):
            sizes = np.bincount(ndimage.label(found.labels == k)[0].ravel())[1:]
            assert (sizes >= 0.002 * found.labels.size).all()
