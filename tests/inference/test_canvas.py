"""Merged windows against the plain way: every class at every pixel, in float64."""

import os
import subprocess
import sys

import numpy as np
import pytest

from zeroseg_jax.inference import canvas
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.scoring import Scored
from zeroseg_jax.inference.windows import Layout

ROWS, SEGMENTS, PATCH = 7, 5, 4


def draw_windows(layout, kind, seed=0, rows=ROWS):
    """Return random Scored of all windows, with a column of padding."""
    rng = np.random.default_rng(seed)
    tall, wide = layout.window
    tables, ids = [], []
    for _ in layout.areas():
        if kind == "segments":
            coarse = rng.integers(0, SEGMENTS, (tall // 4, wide // 4)).astype(np.uint8)
            ids.append(coarse.repeat(4, axis=0).repeat(4, axis=1))
            tables.append(rng.random((SEGMENTS, rows + 1)).astype(np.float32))
        else:
            patches = tall // PATCH * (wide // PATCH)
            tables.append(rng.random((patches, rows + 1)).astype(np.float32))
    return Scored(np.stack(tables), np.stack(ids) if ids else None)


def resize_slowly(values, height, width):
    for axis, size in ((0, height), (1, width)):
        old = values.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (places - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return values


def expand(layout, scored, height, width):
    total = np.zeros((layout.height, layout.width, ROWS))
    count = np.zeros((layout.height, layout.width, 1))
    tall, wide = layout.window
    for i, area in enumerate(layout.areas()):
        table = scored.table[i, :, :ROWS]
        if scored.segment_ids is None:
            patches = table.reshape(tall // PATCH, wide // PATCH, -1).astype(np.float64)
            total[area] += resize_slowly(patches, tall, wide)
        else:
            total[area] += table[scored.segment_ids[i]]
        count[area] += 1
    return resize_slowly(total / count, height, width)


LAYOUTS = [
    (Layout(16, 16, (16, 16), [0], [0]), (16, 16)),
    (Layout(16, 40, (16, 16), [0], [0, 8, 16, 24]), (23, 51)),
    (Layout(33, 21, (16, 16), [0, 8, 16, 17], [0, 5]), (20, 14)),
    (Layout(16, 24, (16, 24), [0], [0]), (40, 31)),
]


@pytest.mark.parametrize("kind", ["segments", "patches"])
@pytest.mark.parametrize(("layout", "size"), LAYOUTS)
def test_labels_equal_those_of_the_whole_array(layout, size, kind):
    scored = draw_windows(layout, kind)
    merged = canvas.merge(layout, scored, PATCH, ROWS)
    expected = expand(layout, scored, *size)
    labels, best = merged.label(*size, LabelRule(np.arange(ROWS)))
    # float32 sums of up to sixteen windows against float64; scores lie in [0, 1].
    np.testing.assert_allclose(best, expected.max(axis=-1), atol=2e-6)
    second = np.sort(expected, axis=-1)[..., -2]
    clear = expected.max(axis=-1) - second > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=-1)[clear])
    whole = expand(layout, scored, *merged.size)
    np.testing.assert_allclose(merged.channels(np.array([2, 5])), whole[..., [2, 5]], atol=2e-6)
    inside = np.random.default_rng(5).random(merged.size) < 0.3
    means = merged.mean_scores(inside)
    np.testing.assert_allclose(means, whole[inside].mean(axis=0), atol=2e-6)


@pytest.mark.parametrize("kind", ["segments", "patches"])
def test_a_small_budget_changes_nothing(monkeypatch, kind):
    layout, size = LAYOUTS[2]
    merged = canvas.merge(layout, draw_windows(layout, kind), PATCH, ROWS)
    rule = LabelRule(np.arange(ROWS), 40.0, 0.2)
    whole = merged.label(*size, rule)
    monkeypatch.setattr(canvas, "_BUDGET_FLOATS", 64)
    np.testing.assert_array_equal(merged.label(*size, rule)[0], whole[0])


@pytest.mark.parametrize("kind", ["segments", "patches"])
def test_likely_rows_hold_every_winner(kind):
    layout, _ = LAYOUTS[1]
    merged = canvas.merge(layout, draw_windows(layout, kind, rows=200), PATCH, 200)
    rows = merged.find_likely_rows(32)
    assert len(rows) >= 32 and (np.diff(rows) > 0).all()
    # Between segments and patches a mixture may win; at their own pixels only these can.
    scores = merged.channels(np.arange(200))
    if kind == "segments":
        assert set(np.unique(scores.argmax(axis=-1))) <= set(rows)
    assert merged.find_likely_rows(200).tolist() == list(range(200))


MEMORY = """
import numpy as np
from zeroseg_jax.inference import canvas, guide_image, label_rules, labelling
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import Scored
from zeroseg_jax.inference.windows import lay_out
kind, dilations, classes, width = {kind!r}, {dilations!r}, {classes}, {width}
image = np.random.default_rng(0).integers(0, 256, (1024, width, 3), dtype=np.uint8)
# Windows at the image's own size: sums over windows are as large as they get.
numbers = dict(short_side_px="1024", window_px="448", pamr_dilations=dilations,
               pamr_iterations="1")
preset = get_preset("sclip", "coco_stuff171", numbers)
layout = lay_out(1024, width, preset, image_px=448, patch_px=16)
rng, windows = np.random.default_rng(0), len(layout.areas())
if kind == "patches":
    scored = Scored(rng.random((windows, 28 * 28, classes), np.float32), None)
else:
    coarse = rng.integers(0, 8, (windows, 28, 28)).astype(np.uint8)
    scored = Scored(
        rng.random((windows, 8, classes), np.float32), coarse.repeat(16, axis=1).repeat(16, axis=2)
    )
merged = canvas.merge(layout, scored, 16, classes)
rule = label_rules.LabelRule(np.arange(classes), 40.0)
guide = guide_image.build_guide(image, preset)
labels = labelling.label_image(merged, image.shape[:2], rule, preset, guide).labels
assert labels.shape == (1024, width) and len(np.unique(labels)) > 100
# Not ru_maxrss: a new process takes over that of the one that started it.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(
    ("kind", "dilations", "classes", "width"),
    [
        ("patches", "", 171, 2048),
        pytest.param("segments", "", 171, 2048, marks=pytest.mark.slow),
        pytest.param("segments", "8;16", 171, 2048, marks=pytest.mark.slow),
        # ADE20K-847 at a short side of 1024 px.
        pytest.param("patches", "", 847, 1365, marks=pytest.mark.slow),
        pytest.param("patches", "8;16", 847, 1365, marks=pytest.mark.slow),
        pytest.param("segments", "", 847, 1365, marks=pytest.mark.slow),
    ],
)
def test_a_large_image_of_many_classes_stays_under_two_gigabytes(kind, dilations, classes, width):
    code = MEMORY.format(kind=kind, dilations=dilations, classes=classes, width=width)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": ""},  # the memory of the code that users run
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2_000_000  # KiB, everything that is loaded included


def test_segments_of_windows_have_different_ids():
    layout, size = LAYOUTS[1]
    scored = draw_windows(layout, "segments")
    merged = canvas.merge(layout, scored, PATCH, ROWS)
    found = merged.segment_ids(*size)
    assert found.shape == size and found.max() < len(scored.table) * SEGMENTS
    plain = merged.segment_ids(layout.height, layout.width)
    later = plain[layout.areas()[-1]]
    np.testing.assert_array_equal(later, scored.segment_ids[-1] + 3 * SEGMENTS)
    patches = canvas.merge(layout, draw_windows(layout, "patches"), PATCH, ROWS)
    assert patches.segment_ids(*size) is None
