"""Mask mIoU and open mIoU against their definitions, spelled out for every matching and pixel."""

import itertools

import numpy as np
import pytest

from zeroseg_jax.evaluation.confusion import Confusion, count_pixels
from zeroseg_jax.evaluation.open_metrics import (
    compare_names,
    match_masks,
    name_similarity,
    open_miou,
)
from zeroseg_jax.inference.scoring import pack_classes


def define_mask_iou(truth, predicted):
    """The best of all matchings of masks, by trying each one."""
    known = truth >= 0
    true_masks = {c: known & (truth == c) for c in np.unique(truth[known])}
    masks = {c: known & (predicted == c) for c in np.unique(predicted[known])}
    best = (-1.0, 0, 0)
    slots = [*masks, *([None] * len(true_masks))]
    for choice in set(itertools.permutations(slots, len(true_masks))):
        ious, renamed, matched = [], 0, 0
        for (c, mask), other in zip(true_masks.items(), choice, strict=True):
            if other is None:
                ious.append(0.0)
                continue
            ious.append((mask & masks[other]).sum() / (mask | masks[other]).sum())
            matched += ious[-1] > 0
            renamed += ious[-1] > 0 and other != c
        best = max(best, (sum(ious), matched, renamed))
    return best[0], len(true_masks), best[1], best[2]


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_matched_as_well_as_any_matching(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, 3, (9, 8))
    predicted = np.where(rng.random((9, 8)) < 0.6, (truth + 1) % 4, rng.integers(0, 4, (9, 8)))
    found = match_masks(*count_pixels(truth, predicted, 4), 4)
    wanted = define_mask_iou(truth, predicted)
    np.testing.assert_allclose(found[:2], wanted[:2])
    assert tuple(found[2:]) == wanted[2:]


def test_right_masks_under_wrong_names_score_all():
    truth = np.repeat([[0, 1, 2]], 3, axis=0)
    found = match_masks(*count_pixels(truth, (truth + 1) % 3, 3), 3)
    assert found.tolist() == [3, 3, 3, 3]


def test_open_miou_counts_each_pixel_by_the_similarity_of_its_names():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 7)).astype(np.float32)
    vectors[1] = vectors[0] + 0.3 * vectors[1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = name_similarity(vectors)
    assert similarity[0, 1] > 0.5 and (np.diag(similarity) == 1).all()
    assert similarity.min() >= 0 and similarity.max() == 1
    truth, predicted = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    confusion = Confusion(5)
    confusion.add(truth[None], predicted[None])
    right, missed, wrong = np.zeros((3, 5))
    for a, b in zip(truth, predicted, strict=True):
        right[a] += similarity[a, b]
        missed[a] += 1 - similarity[a, b]
        if a != b:
            wrong[b] += 1 - similarity[a, b]
    wanted = np.mean([right[c] / (right[c] + missed[c] + wrong[c]) for c in range(4)])
    assert open_miou(confusion.matrix, similarity) == pytest.approx(wanted, rel=1e-12)
    # Names without similarity give mIoU.
    assert open_miou(confusion.matrix, np.eye(5)) == pytest.approx(confusion.miou())


def test_vectors_of_a_class_are_those_of_its_names():
    class Benchmark:
        class_names, has_background = ("background", "cat", "dog"), True

    rows = np.eye(4, dtype=np.float32)
    # cat, two names of dog; the background's name is like one of dog's.
    packed = pack_classes([rows[:1], rows[1:3], rows[1:2]], background=1)
    found = compare_names(packed, Benchmark())
    dog = np.array([0, 1, 1, 0]) / np.sqrt(2)
    wanted = name_similarity(np.stack([rows[1], rows[0], dog]).astype(np.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    # A threshold has no name.
    unnamed = compare_names(pack_classes([rows[:1], rows[1:3]]), Benchmark())
    assert unnamed[0].tolist() == [1, 0, 0]
    assert compare_names(None, Benchmark()) is None
