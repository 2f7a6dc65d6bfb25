"""A picture's scores to labels against the plain way: every class at every pixel, in float64."""

import os
import subprocess
import sys

import numpy as np
import pytest

from zeroseg_jax.inference import batches as stream
from zeroseg_jax.inference import canvas, presets, ranking, windows
from zeroseg_jax.inference import labelling as naming
from zeroseg_jax.inference.canvas import Grid, Scored

WORDS, SEGMENTS, PATCH = 7, 5, 4


def draw_windows(grid, kind, seed=0, words=WORDS):
    rng = np.random.default_rng(seed)
    scored = []
    tall, wide = grid.window
    for _ in grid.places():
        if kind == "segments":
            coarse = rng.integers(0, SEGMENTS, (1, tall // 4, wide // 4)).astype(np.uint8)
            winners = coarse.repeat(4, axis=1).repeat(4, axis=2)
            table = rng.random((1, SEGMENTS, words)).astype(np.float32)
            scored.append(Scored(table, winners))
        else:
            patches = tall // PATCH * (wide // PATCH)
            scored.append(Scored(rng.random((1, patches, words)).astype(np.float32), None))
    return scored


def resize_slowly(values, height, width):
    for axis, size in ((0, height), (1, width)):
        old = values.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return values


def spell_out(grid, scored, height, width):
    total = np.zeros((grid.height, grid.width, scored[0].table.shape[-1]))
    count = np.zeros((grid.height, grid.width, 1))
    tall, wide = grid.window
    for area, (table, winners) in zip(grid.places(), scored, strict=True):
        if winners is None:
            patches = table[0].reshape(tall // PATCH, wide // PATCH, -1).astype(np.float64)
            total[area] += resize_slowly(patches, tall, wide)
        else:
            total[area] += table[0][winners[0]]
        count[area] += 1
    return resize_slowly(total / count, height, width)


GRIDS = [
    (Grid(16, 16, (16, 16), [0], [0]), (16, 16)),
    (Grid(16, 40, (16, 16), [0], [0, 8, 16, 24]), (23, 51)),
    (Grid(33, 21, (16, 16), [0, 8, 16, 17], [0, 5]), (20, 14)),
]


@pytest.mark.parametrize("kind", ["segments", "patches"])
@pytest.mark.parametrize(("grid", "size"), GRIDS)
def test_labels_equal_those_of_the_whole_array(grid, size, kind):
    scored = draw_windows(grid, kind)
    picture = canvas.build_canvas(grid, scored, PATCH)
    expected = spell_out(grid, scored, *size)
    labels, best = picture.label(*size, ranking.Rule(np.arange(WORDS)))
    # float32 sums of up to sixteen windows against float64; scores lie in [0, 1].
    np.testing.assert_allclose(best, expected.max(axis=-1), atol=2e-6)
    second = np.sort(expected, axis=-1)[..., -2]
    clear = expected.max(axis=-1) - second > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=-1)[clear])
    whole = spell_out(grid, scored, *picture.size)
    np.testing.assert_allclose(picture.channels(2, 5), whole[..., 2:5], atol=2e-6)
    inside = np.random.default_rng(5).random(picture.size) < 0.3
    means = picture.mean_scores(inside)
    np.testing.assert_allclose(means, whole[inside].mean(axis=0), atol=2e-6)


def test_small_budget_changes_nothing(monkeypatch):
    for kind in ("segments", "patches"):
        grid, size = GRIDS[2]
        picture = canvas.build_canvas(grid, draw_windows(grid, kind), PATCH)
        rule = ranking.Rule(np.arange(WORDS), 40.0, 0.2)
        whole = picture.label(*size, rule)
        monkeypatch.setattr(canvas, "_BUDGET_FLOATS", 64)
        np.testing.assert_array_equal(picture.label(*size, rule)[0], whole[0])
        monkeypatch.undo()


def test_softmax_over_names_then_the_best_name():
    """SCLIP's order: softmax over all names at a pixel, a class by its best name, a threshold."""
    rng = np.random.default_rng(1)
    scores = rng.random((50, WORDS)).astype(np.float32)
    owners = np.array([1, 1, 2, 3, 3, 0, 0])  # two words for background, last
    rule = ranking.Rule(owners, softmax_scale=12.0, threshold=0.3)
    e = np.exp(12.0 * scores.astype(np.float64))
    probabilities = e / e.sum(axis=1, keepdims=True)
    by_class = np.stack([probabilities[:, owners == c].max(axis=1) for c in range(4)], axis=1)
    expected = np.where(by_class.max(axis=1) < 0.3, 0, by_class.argmax(axis=1))
    labels, best = ranking.rank(scores, rule)
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(best, by_class.max(axis=1), rtol=2e-5)
    parts = ranking.Ranking(rule, 50)
    for start in range(0, WORDS, 3):
        parts.add(scores[:, start : start + 3], start)
    by_parts = parts.finish()
    np.testing.assert_array_equal(by_parts[0], labels)
    np.testing.assert_allclose(by_parts[1], best, rtol=2e-6)


def test_small_classes_are_taken_back():
    labels = np.array([[0] * 50 + [1] * 46 + [2] * 4])
    rule = ranking.Rule(np.array([1, 2, 0]), 10.0)
    stricter = ranking.drop_small(labels, rule, 0.1)
    assert stricter.allowed.tolist() == [True, False, True]
    scores = np.array([[0.2, 0.9, 0.1]], np.float32)
    label, best = ranking.rank(scores, stricter)
    assert label[0] == 1
    # The forbidden word still takes its share of the probability.
    e = np.exp(10 * scores[0].astype(np.float64))
    assert best[0] == pytest.approx(e[0] / e.sum(), rel=1e-5)
    assert ranking.drop_small(labels, rule, 0.01) is None


def test_pictures_refined_and_not_have_the_same_rule():
    class Halves:
        native_px, patch_px, unit, facts = 16, 8, 1, {}
        rule = ranking.Rule(np.array([1, 2, 0]), 20.0, 0.5)

        @staticmethod
        def score(pixels):
            right = np.broadcast_to(np.arange(16) >= 8, (1, 16, 16)).astype(int)
            table = np.array([[[0.9, 0.2, 0.1], [0.1, 0.12, 0.11]]], np.float32)
            return Scored(table, right)

    image = np.zeros((20, 20, 3), np.uint8)
    image[:, 10:] = 255
    for dilations in ("", "1;2"):
        preset = presets.get_preset(
            "sclip", "voc21", {"short_side_px": "0", "window_px": "0", "pamr_dilations": dilations}
        )
        (cut,) = stream.score_windows(Halves(), [stream.cut_picture(image, preset, Halves())], 1)
        found = naming.name_pixels(Halves(), cut, image, preset)
        # To the right no word reaches 0.5.
        assert (found.labels[:, :9] == 1).all() and (found.labels[:, 12:] == 0).all()
        assert sorted(np.unique(found.segments)) == [0, 1]


MEMORY = """
import numpy as np
from zeroseg_jax.evaluation import naming, presets, ranking, stream
from zeroseg_jax.inference.canvas import Scored
kind, dilations = {kind!r}, {dilations!r}
class Model:
    native_px, patch_px, unit, facts = 448, 16, 1, dict()
    rule = ranking.Rule(np.arange(171), 40.0)
    def __init__(self):
        self.rng = np.random.default_rng(0)
    def score(self, pixels):
        side = pixels.shape[1]
        if kind == "patches":
            return Scored(self.rng.random((1, (side // 16) ** 2, 171), np.float32), None)
        coarse = self.rng.integers(0, 8, (1, side // 16, side // 16)).astype(np.uint8)
        table = self.rng.random((1, 8, 171), np.float32)
        return Scored(table, coarse.repeat(16, axis=1).repeat(16, axis=2))
image = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
# Windows at the picture's own size: sums over windows are as large as they get.
numbers = dict(short_side_px="1024", window_px="448", pamr_dilations=dilations,
               pamr_iterations="1")
preset = presets.get_preset("sclip", "coco_stuff171", numbers)
model = Model()
cut, = stream.score_windows(model, [stream.cut_picture(image, preset, model)], 8)
labels = naming.name_pixels(model, cut, image, preset).labels
assert labels.shape == (1024, 2048) and len(np.unique(labels)) > 100
# Not ru_maxrss: a new process takes over that of the one that started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(
    ("kind", "dilations"),
    [
        ("patches", ""),
        pytest.param("segments", "", marks=pytest.mark.slow),
        pytest.param("segments", "8;16", marks=pytest.mark.slow),
    ],
)
def test_a_large_picture_of_171_classes_stays_under_two_gigabytes(kind, dilations):
    code = MEMORY.format(kind=kind, dilations=dilations)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": ""},  # the memory of the code that users run
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2_000_000  # KiB, everything that is loaded included


def test_segments_of_windows_have_different_ids():
    grid, size = GRIDS[1]
    scored = draw_windows(grid, "segments")
    found = canvas.spread_segments(grid, scored, *size)
    assert found.shape == size and found.max() < len(scored) * SEGMENTS
    plain = canvas.spread_segments(grid, scored, grid.height, grid.width)
    later = plain[grid.places()[-1]]
    np.testing.assert_array_equal(later, scored[-1].winners[0] + 3 * SEGMENTS)


def test_matrix_and_taps_are_one_rule():
    values = np.random.default_rng(0).random((9, 1, 1)).astype(np.float32)
    by_matrix = windows.bilinear_matrix(9, 14) @ values[:, 0]
    np.testing.assert_allclose(by_matrix, windows.resize_floats(values, 14, 1)[:, 0], atol=1e-6)
