"""Scores of segments against plain NumPy; padding of class vectors."""

import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.inference import scoring
from zeroseg_jax.inference.scoring import Encoded, pack_classes


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def score(encoded, classes, *, scale=10.0, threshold=0.0, **changes):
    options = {"naming": "segments", "image_filter": "none", "topk": 3, "window_rule": False}
    table = scoring.score_windows(
        encoded, classes.vectors, len(classes.class_ids), classes.background, scale, threshold,
        **{**options, "has_background": bool(classes.background), **changes},
    )  # fmt: skip
    return np.asarray(table)


def test_scores_follow_groupvit_step_by_step():
    segments, image, text = unit(draw(2, 4, 6)), unit(draw(2, 6, seed=1)), unit(draw(7, 6, seed=2))
    classes = pack_classes([row[None] for row in text])
    encoded = Encoded(segments, image, None)
    found = score(encoded, classes, image_filter="topk_product")
    for b in range(2):
        q = softmax(10 * image[b] @ text.T)
        kept = np.argsort(q)[-3:]
        for s in range(4):
            logits = 10 * segments[b, s] @ text.T
            only = np.full(7, -np.inf)
            only[kept] = logits[kept]
            np.testing.assert_allclose(found[b, s, :7], softmax(logits) * softmax(only), rtol=1e-4)
    plain = score(encoded, classes)
    np.testing.assert_allclose(plain.sum(axis=-1), 1, rtol=1e-5)
    assert (plain[..., 7:] == 0).all()  # padding
    cosines = score(encoded, classes, naming="pixels")
    np.testing.assert_allclose(cosines[..., :7], segments @ text.T, atol=1e-6)


def test_a_filter_of_more_classes_than_there_are_keeps_all():
    encoded = Encoded(unit(draw(1, 4, 6)), unit(draw(1, 6, seed=1)), None)
    classes = pack_classes([row[None] for row in unit(draw(2, 6, seed=2))])
    filtered = score(encoded, classes, image_filter="topk_product", topk=5)
    np.testing.assert_allclose(filtered, score(encoded, classes) ** 2, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 31, 32, 33])
def test_padding_leaves_scores_alone(count):
    encoded = Encoded(unit(draw(1, 8, 64)), None, None)
    text = unit(draw(count, 64, seed=2))
    found = score(encoded, pack_classes([row[None] for row in text]), scale=40.0)[..., :count]
    logits = 40.0 * (encoded.features[0].astype(np.float64) @ text.T.astype(np.float64))
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(found[0], e / e.sum(axis=-1, keepdims=True), atol=2e-6)


def test_other_class_names_do_not_compile_again():
    encoded = Encoded(unit(draw(1, 5, 24)), None, None)
    rows = unit(draw(32, 24, seed=2))
    score(encoded, pack_classes([rows[:1]]))
    compiled = scoring.score_windows.count_signatures()
    for count in (2, 9, 32):
        score(encoded, pack_classes([row[None] for row in rows[:count]]), scale=float(count))
    assert scoring.score_windows.count_signatures() == compiled
    score(encoded, pack_classes([rows, rows[:1]]))  # 33 rows
    assert scoring.score_windows.count_signatures() == compiled + 1


def test_names_of_a_class_are_packed_in_order():
    classes = pack_classes([np.ones((2, 4)), np.full((1, 4), 2.0), np.full((3, 4), 3.0)], 1)
    assert classes.class_ids.tolist() == [0, 0, 1, 2, 2, 2] and classes.background == 3
    assert classes.vectors.shape == (32, 4)
    assert np.asarray(classes.vectors)[:, 0].tolist() == [1, 1, 2, 3, 3, 3] + [0] * 26


def test_pixels_follow_their_segment():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, :, 0, 0], maps[0, :, 1, 1] = 1, 1
    segment_ids = np.asarray(scoring.choose_segments(jnp.asarray(maps), (8, 8)))
    assert (segment_ids[0, :, :4] == 0).all() and (segment_ids[0, :, 4:] == 1).all()
    assert segment_ids.dtype == np.uint8


def test_background_wins_below_the_threshold_lowered_to_the_best_segment():
    scores = jnp.asarray([[[0.3, 0.2], [0.7, 0.1]], [[0.2, 0.1], [0.1, 0.0]]])
    labels = scoring.add_background(scores, 0.5).argmax(axis=-1)
    assert labels.tolist() == [[0, 1], [1, 0]]
    labels = scoring.add_background(scores, 0.95).argmax(axis=-1)
    assert labels.tolist() == [[0, 1], [1, 0]]


def test_background_names_become_one_column_in_front():
    scores = np.array([[[0.1, 0.5, 0.0, 0.3, 0.1], [0.1, 0.2, 0.0, 0.0, 0.7]]], np.float32)
    merged = np.asarray(scoring.merge_background(scores, jnp.arange(5) >= 3))[..., :4]
    np.testing.assert_allclose(merged[0], [[0.3, 0.1, 0.5, 0.0], [0.7, 0.1, 0.2, 0.0]])
    assert merged.argmax(axis=-1).tolist() == [[2, 0]]
