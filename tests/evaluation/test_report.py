"""Report of a result: the score line names the whole protocol, the sections hold every number."""

import dataclasses

import pytest
from small_benchmark import SmallBenchmark

from zeroseg_jax.evaluation.measure import Measurements, measure_image
from zeroseg_jax.evaluation.render import render_html, render_markdown
from zeroseg_jax.evaluation.report import (
    build_sections,
    list_protocol,
    render_protocol,
    render_score_line,
)
from zeroseg_jax.inference.presets import get_preset


@pytest.fixture(scope="module")
def result():
    benchmark = SmallBenchmark(2)
    measured = Measurements(benchmark)
    for item in benchmark.items:
        labels = item["label"].clip(0)
        measured.add(measure_image(benchmark, item, labels, labels))
    changes = {"background_words": "grass; sky", "pamr_dilations": "1;2", "pamr_iterations": "3"}
    changes["refine"] = "pamr"
    return {
        **measured.summarise([2]),
        "preset": dataclasses.asdict(get_preset("zeroseg", "playground/things", changes)),
        "checkpoint": "<b>c</b>",
        "model": {"logit_scale": 32.5},
        "words": [["star"], ["ring", "a&b"]],
        "prompts": "playground",
        "threshold": 0.0,
    }


def test_score_line_and_protocol_name_everything(result):
    line = render_score_line(result)
    assert line == "small: mIoU 100.00 over 3 classes and 2 images, checkpoint <b>c</b>"
    line = render_protocol(result)
    for part in ("preset zeroseg",
                 "PAMR 3 x (1, 2)", "window same area", "resize antialiased", "normalisation model",
                 "2 classes, 3 names", "logit scale 32.5", "background words 2"):  # fmt: skip
        assert part in line, part
    other = {"official_images": [5, 7], "options": {"ignore": 255}, "preset": None}
    line = render_score_line({**result, **other, "mean_over": "all classes, absent ones as 0"})
    assert "all 3 classes (3 occur" in line and "2 of 5 or 7 images (ignore 255)" in line
    assert "protocol unknown" in render_protocol({**result, **other})


def test_early_reports_have_a_protocol(result):
    """Their presets have no `window`; -1 px is the whole image."""
    early = {name: value for name, value in result["preset"].items() if name != "window"}
    for window_px, text in ((-1, "window whole,"), (0, "window native,"), (448, "window 448,")):
        preset = {**early, "window_px": window_px}
        assert text in render_protocol({**result, "preset": preset})


def test_sections_hold_classes_measures_and_protocol(result):
    sections = build_sections(result, [])
    text, page = render_markdown("small", sections), render_html("small", sections)
    for part in ("| ring | 100.00 | 100.00 |", "| unseen mIoU | 100.00 |", "Unseen classes: ring.",
                 "| pamr_iterations | 3 |", "Class names: star; ring, a&b",
                 "| wrong pixels: naming | 0.00 |"):  # fmt: skip
        assert part in text, part
    assert "&lt;b&gt;c" in page and "<b>c" not in page and "a&amp;b" in page
    for setting in list_protocol(result):
        assert "| {} | {} |".format(*setting) in text
    text = render_markdown("", build_sections({**result, "preset": None}, []))
    assert "protocol unknown" in text and "Every setting" not in text
