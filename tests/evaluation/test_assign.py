"""Assignment, windows and presets against plain numpy and, for resizing, torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zeroseg_jax.evaluation import assign, presets, windows
from zeroseg_jax.models.student import SegmentOutputs


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
    scores = np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)
    painted, winners = assign.paint_segments(jnp.asarray(maps), jnp.asarray(scores), (8, 8))
    assert (np.asarray(winners)[0, :, :4] == 0).all()
    assert (np.asarray(winners)[0, :, 4:] == 1).all()
    np.testing.assert_allclose(np.asarray(painted)[0, 0, 0], [0.9, 0.1])


def test_background_wins_below_the_threshold_but_never_everywhere():
    scores = jnp.asarray([[[[0.3, 0.2]], [[0.7, 0.1]]]])
    labels = assign.add_background(scores, 0.5).argmax(axis=-1)
    assert labels.ravel().tolist() == [0, 1]
    labels = assign.add_background(scores, 0.95).argmax(axis=-1)
    assert labels.ravel().tolist() == [0, 1]


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


def test_sliding_a_pointwise_model_equals_one_pass():
    image = np.random.default_rng(0).random((30, 50, 3)).astype(np.float32)

    def score(window):
        return window * 2, np.zeros(window.shape[:3], int)

    scores, ids = windows.slide(image, 16, 8, score)
    np.testing.assert_allclose(scores, image * 2, rtol=1e-6)
    assert len(np.unique(ids)) > 1


def test_argmax_by_chunks_equals_argmax():
    scores = draw(9, 7, 70)
    labels, best = windows.label_pixels(scores, 9, 7)
    np.testing.assert_array_equal(labels, scores.argmax(axis=-1))
    np.testing.assert_array_equal(best, scores.max(axis=-1))


def test_resize_rule_is_mmcvs():
    assert windows.resized_size(375, 500, 448) == (448, 597)
    assert windows.resized_size(500, 333, 448) == (673, 448)
    assert windows.resized_size(224, 224, 112) == (112, 112)


@pytest.mark.parametrize("size", [(40, 60), (11, 17)])
def test_bilinear_equals_torch(size):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    image = np.random.default_rng(0).integers(0, 255, (24, 36, 3), dtype=np.uint8)
    found = windows.resize_image(image, *size, "bilinear")
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
    # Levels run to 255, so 1e-3 is a relative 4e-6.
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=1e-3)


def test_preset_overrides_and_refusals():
    preset = presets.get_preset("zeroseg", "voc21", {"threshold": "0.4", "topk": "3"})
    assert (preset.threshold, preset.topk, preset.prompts) == (0.4, 3, "imagenet")
    for arguments, sentence in (
        (("zerosegg", "voc21"), "did you mean zeroseg"),
        (("zeroseg", "voc21", {"treshold": "1"}), "no field"),
        (("zeroseg", "voc21", {"threshold": "high"}), "not of type float"),
        (("zeroseg", "voc21", {"threshold": "2"}), "outside"),
        (("zeroseg", "voc21", {"image_filter": "x"}), "image_filter"),
    ):
        with pytest.raises(ValueError, match=sentence):
            presets.get_preset(*arguments)


def test_paper_thresholds():
    found = [
        presets.get_preset("zeroseg", b).threshold for b in ("voc21", "context60", "coco_object")
    ]
    assert found == [0.95, 0.05, 0.35]


def test_batch_of_windows_equals_one_by_one():
    segments, image, text = draw(4, 3, 6), draw(4, 6, seed=1), unit(draw(5, 6, seed=2))
    maps = jax.nn.softmax(draw(4, 3, 3, 3, seed=3), axis=-1)
    options = {"scale": 10.0, "image_filter": "topk_product", "topk": 2}
    together = SegmentOutputs(jnp.asarray(segments), jnp.asarray(image), maps)
    scores = assign.score_segments(together, text, **options)
    painted, _ = assign.paint_segments(maps, scores, (12, 12))
    painted = assign.add_background(painted, 0.5).argmax(axis=-1)
    for i in range(4):
        one = SegmentOutputs(segments[i : i + 1], image[i : i + 1], maps[i : i + 1])
        alone, _ = assign.paint_segments(
            one.maps, assign.score_segments(one, text, **options), (12, 12)
        )
        np.testing.assert_array_equal(assign.add_background(alone, 0.5).argmax(-1)[0], painted[i])


def test_background_words_become_one_channel_in_front():
    scores = np.zeros((1, 1, 2, 5), np.float32)
    scores[0, 0, 0] = [0.1, 0.5, 0.0, 0.3, 0.1]
    scores[0, 0, 1] = [0.1, 0.2, 0.0, 0.0, 0.7]
    merged = np.asarray(assign.merge_background(scores, 2))
    np.testing.assert_allclose(merged[0, 0], [[0.3, 0.1, 0.5, 0.0], [0.7, 0.1, 0.2, 0.0]])
    assert merged.argmax(axis=-1).tolist() == [[[2, 0]]]


def test_background_is_a_threshold_or_words_but_not_both():
    words = {"background_words": "sky; brick wall"}
    preset = presets.get_preset("zeroseg", "ade150", words)
    assert preset.background_words == ("sky", "brick wall")
    with pytest.raises(ValueError, match="exclude each other"):
        presets.get_preset("zeroseg", "voc21", words)


def test_pamr_is_a_field_like_others():
    preset = presets.get_preset("zeroseg", "voc21", {"pamr_dilations": "8; 16"})
    assert preset.pamr_dilations == (8, 16)
    off = presets.get_preset("zeroseg", "playground/full", {"pamr_dilations": ""})
    assert off.pamr_dilations == ()
    for field, value, sentence in (
        ("pamr_dilations", "0;8", "pixels between 1 and"),
        ("pamr_dilations", "wide", "not of type int"),
        ("pamr_iterations", "0", "less than 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            presets.get_preset("zeroseg", "voc21", {field: value})
