"""Class names of presets: published lists, background rules, refusals."""

import dataclasses

import pytest
from small_benchmark import SmallBenchmark

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import Listing, build_benchmark
from zeroseg_jax.evaluation import classes
from zeroseg_jax.inference import presets
from zeroseg_jax.inference.preset_table import PROTOCOLS

SPACES = ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff171", "ade150",
          "cityscapes19")  # fmt: skip


def test_class_names_of_a_protocol(tmp_path, monkeypatch):
    monkeypatch.setattr(classes, "WORDS", tmp_path)
    (tmp_path / "small.sclip.txt").write_text("sky; wall\nstar\nring; hoop\n")
    preset = presets.get_preset("sclip", "voc21", {"words_file": "sclip"})
    asked, completed = classes.choose_class_names(preset, SmallBenchmark())
    assert asked == [["star"], ["ring", "hoop"]]
    assert completed.background_words == ("sky", "wall")
    for content, sentence in (
        ("sky\nstar\n", "2 lines, but there are 3 classes"),
        ("sky\n\nring\n", "line 2: a blank line"),
        ("sky\nstar;\nring\n", "line 2: a blank name"),
        ("", "the file is empty"),
    ):
        (tmp_path / "small.sclip.txt").write_text(content)
        with pytest.raises(ValueError, match=sentence):
            classes.choose_class_names(preset, SmallBenchmark())
    with pytest.raises(ValueError, match="class names 'tcl' for small .known: sclip"):
        classes.choose_class_names(dataclasses.replace(preset, words_file="tcl"), SmallBenchmark())
    assert classes.find_shared_names([["bed", "Cot"], ["cot"]]) == ["cot"]


def test_a_background_needs_a_rule_and_a_rule_a_background():
    """SCLIP#2: a threshold without a background takes pixels from a class; and the reverse."""
    bare = presets.get_preset("groupvit", "playground/things")
    with pytest.raises(ValueError, match="has a background and groupvit has no rule"):
        classes.choose_class_names(bare, get_benchmark("playground/things"))
    ruled = presets.get_preset("groupvit", "voc21", {"words_file": ""})
    with pytest.raises(ValueError, match="has no background, so threshold"):
        classes.choose_class_names(ruled, get_benchmark("playground/full"))


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name not in ("zss", "frozen")])
@pytest.mark.parametrize("space", SPACES)
def test_every_protocol_has_class_names_for_every_benchmark(name, space):
    background = space in ("voc21", "context60", "coco_object")
    if background and name in ("tips", "maskclip_plain"):
        pytest.skip("the protocol has no rule for background")
    benchmark = build_benchmark(
        space, has_background=background, listing=Listing(()), encoding=None
    )
    asked, preset = classes.choose_class_names(presets.get_preset(name, space), benchmark)
    assert len(asked) == len(benchmark.class_names) - background
    # TCL's background is a constant alone; the background line is skipped.
    assert bool(preset.background_words) == (background and preset.names == "best")
