"""Assignment, windows and presets against plain numpy and, for resizing, torch and cv2."""

import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.inference import scoring as assign
from zeroseg_jax.inference import windows
from zeroseg_jax.models.zeroseg.student import SegmentOutputs


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_scores_follow_groupvit_step_by_step():
    segments, image, text = draw(2, 4, 6), draw(2, 6, seed=1), unit(draw(7, 6, seed=2))
    outputs = SegmentOutputs(jnp.asarray(segments), jnp.asarray(image), jnp.zeros((2, 1, 1, 4)))
    found = assign.score_segments(outputs, text, scale=10.0, image_filter="topk_product", topk=3)
    for b in range(2):
        q = softmax(10 * unit(image[b]) @ text.T)
        kept = np.argsort(q)[-3:]
        for s in range(4):
            logits = 10 * unit(segments[b, s]) @ text.T
            only = np.full(7, -np.inf)
            only[kept] = logits[kept]
            np.testing.assert_allclose(found[b, s], softmax(logits) * softmax(only), rtol=1e-4)
    plain = assign.score_segments(outputs, text, scale=10.0, image_filter="none", topk=3)
    np.testing.assert_allclose(plain.sum(axis=-1), 1, rtol=1e-5)


def test_pixels_follow_their_segment():
    maps = np.zeros((1, 2, 2, 2), np.float32)
    maps[0, :, 0, 0], maps[0, :, 1, 1] = 1, 1
    winners = np.asarray(assign.choose_segments(jnp.asarray(maps), (8, 8)))
    assert (winners[0, :, :4] == 0).all() and (winners[0, :, 4:] == 1).all()
    assert winners.dtype == np.uint8


def test_background_wins_below_the_threshold_lowered_to_the_best_segment():
    scores = jnp.asarray([[[0.3, 0.2], [0.7, 0.1]], [[0.2, 0.1], [0.1, 0.0]]])
    labels = assign.add_background(scores, 0.5).argmax(axis=-1)
    assert labels.tolist() == [[0, 1], [1, 0]]
    labels = assign.add_background(scores, 0.95).argmax(axis=-1)
    assert labels.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("length", "window", "stride"),
    [(448, 448, 224), (500, 448, 224), (1000, 448, 224), (113, 112, 56)],
)
def test_windows_cover_everything_and_stay_inside(length, window, stride):
    starts = windows.window_starts(length, window, stride)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= length - window
        covered[start : start + window] = True
    assert covered.all() and len(set(starts)) == len(starts)


def test_resize_rule_is_mmcvs():
    assert windows.resized_size(375, 500, 448) == (448, 597)
    assert windows.resized_size(500, 333, 448) == (673, 448)
    assert windows.resized_size(224, 224, 112) == (112, 112)


SIZES = [((24, 36), (40, 60)), ((24, 36), (11, 17)), ((375, 500), (448, 597)), ((99, 9), (60, 70))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_bilinear_equals_torch(old, new):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    image = np.random.default_rng(0).integers(0, 255, (*old, 3), dtype=np.uint8)
    found = windows.resize_image(image, *new, "bilinear")
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        x, new, mode="bilinear", align_corners=False, antialias=False
    )
    # Levels run to 255 and places to 600, both float32: a relative 1e-5 of the range.
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=3e-3)


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((1024, 2048), (448, 896)), ((50, 50), (50, 7))])
def test_bytes_equal_cv2s(old, new):
    cv2 = pytest.importorskip("cv2", reason="parity needs cv2: pip install opencv-python-headless")
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    found = windows.resize_image(image, *new, "cv2")
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found, expected)


def test_bytes_are_within_a_level_of_the_exact_mean():
    image = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    exact = windows.resize_image(image, 70, 64, "bilinear")
    found = windows.resize_image(image, 70, 64, "cv2")
    assert (found == np.rint(found)).all() and 0 < np.abs(found - exact).max() <= 1


def test_long_pictures_are_stretched_and_known():
    assert not windows.is_stretched(375, 500, 448) and windows.is_stretched(100, 3000, 448)
    assert windows.resized_size(100, 3000, 448) == (448, 2048)


def test_background_words_become_one_channel_in_front():
    scores = np.array([[[0.1, 0.5, 0.0, 0.3, 0.1], [0.1, 0.2, 0.0, 0.0, 0.7]]], np.float32)
    merged = np.asarray(assign.merge_background(scores, 2))
    np.testing.assert_allclose(merged[0], [[0.3, 0.1, 0.5, 0.0], [0.7, 0.1, 0.2, 0.0]])
    assert merged.argmax(axis=-1).tolist() == [[2, 0]]
