"""Protocols as data: the published numbers, overrides, and what is refused."""

import dataclasses

import pytest

from zeroseg_jax.inference import presets
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.teacher.towers import FAMILIES

SPACES = ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff171", "ade150",
          "cityscapes19", "imagenet_s", "folder")  # fmt: skip


def test_preset_overrides_and_refusals():
    preset = presets.get_preset("zeroseg", "voc21", {"threshold": "0.4", "topk": "3"})
    assert (preset.threshold, preset.topk, preset.prompts) == (0.4, 3, "imagenet")
    for arguments, sentence in (
        (("zerosegg", "voc21"), "did you mean zeroseg"),
        (("zeroseg", "voc21", {"treshold": "1"}), "no field of a preset; did you mean threshold"),
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


def test_background_is_a_threshold_or_words_but_not_both():
    words = {"background_words": "sky; brick wall"}
    preset = presets.get_preset("zeroseg", "ade150", words)
    assert preset.background_words == ("sky", "brick wall")
    with pytest.raises(ValueError, match="exclude each other"):
        presets.get_preset("zeroseg", "voc21", words)


def test_pamr_is_a_field_like_others():
    preset = presets.get_preset("zeroseg", "voc21", {"pamr_dilations": "8; 16"})
    assert preset.pamr_dilations == (8, 16)
    off = presets.get_preset("naclip", "voc21", {"pamr_dilations": ""})
    assert off.pamr_dilations == ()
    for field, value, sentence in (
        ("pamr_dilations", "0;8", "distances of at least 1 px"),
        ("pamr_dilations", "wide", "not of type int"),
        ("pamr_iterations", "0", "less than 1"),
        ("guided_radius", "0", "must be above 0 and at most 1"),
        ("guided_radius", "1.5", "must be above 0 and at most 1"),
        ("guided_eps", "-1", "must be above 0"),
        ("guided_eps", "inf", "must be above 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            presets.get_preset("zeroseg", "voc21", {field: value})


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "frozen"])
@pytest.mark.parametrize("space", SPACES)
def test_every_protocol_fits_every_benchmark(name, space):
    preset = presets.get_preset(name, space)
    # Zero-shot splits have no background: their pixels are ignored.
    with_background = name != "zss" and space in ("voc21", "context60", "coco_object")
    if name in ("tips", "maskclip_plain"):  # published for benchmarks without background alone
        return
    if name not in ("sclip", "naclip", "clearclip", "proxyclip", "proxyclip_dinov2", "scclip"):
        assert preset.names_background == with_background
    assert bool(preset.threshold) == with_background


@pytest.mark.parametrize(
    ("name", "space", "fields"),
    [
        ("groupvit", "voc21", {"short_side_px": 448, "window_px": 448, "stride_px": 224,
                               "threshold": 0.95, "topk": 5, "prompts": "simple"}),
        ("groupvit", "context60", {"threshold": 0.35}),
        ("segclip", "coco_object", {"window_px": 224, "stride_px": 224, "threshold": 0.65}),
        ("tcl_windows", "voc21", {"threshold": 0.5, "prompts": "tcl",
                                  "threshold_rule": "constant"}),
        ("sclip", "voc21", {"short_side_px": 336, "window_px": 224, "stride_px": 112,
                            "logit_scale": 65.0, "threshold": 0.1, "area_threshold": 0.1}),
        ("sclip", "cityscapes19", {"short_side_px": 560, "logit_scale": 40.0, "threshold": 0.0}),
        ("sclip", "coco_object", {"logit_scale": 50.0, "threshold": 0.1, "names": "best"}),
        ("clearclip", "context60", {"logit_scale": 50.0, "threshold": 0.15, "window_px": 448}),
        ("clearclip", "cityscapes19", {"window_px": 224, "stride_px": 224}),
        ("maskclip_plain", "voc20", {"window": "whole", "prompts": "maskclip",
                                     "short_side_px": 512}),
        ("maskclip_plain", "context59", {"short_side_px": 520, "long_side_px": 520,
                                         "words_file": "maskclip"}),
        ("zss", "voc20", {"prompts": "zegclip_single"}),
        ("zss", "coco_stuff171", {"prompts": "zegclip"}),
        ("sclip", "voc20", {"positions": "scale", "guide": "image"}),
        ("naclip", "voc20", {"guide": "resized", "positions": "scale"}),
        ("naclip", "voc20", {"window": "whole", "pamr_dilations": (8, 16), "threshold": 0.0}),
        ("scclip", "voc21", {"short_side_px": 336, "window_px": 224, "stride_px": 112,
                             "logit_scale": 50.0, "threshold": 0.15, "area_threshold": 0.1}),
        ("scclip", "coco_object", {"logit_scale": 55.0, "threshold": 0.35}),
        ("scclip", "cityscapes19", {"short_side_px": 560, "logit_scale": 40.0}),
        ("tips", "ade150", {"short_side_px": 448, "window_px": 448, "stride_px": 336,
                            "prompts": "tcl", "logit_scale": 1.0, "resize": "antialiased"}),
        ("proxyclip", "ade150", {"short_side_px": 448, "window_px": 336, "stride_px": 112}),
        ("proxyclip", "coco_object", {"threshold": 0.25, "words_file": "proxyclip"}),
    ],
)  # fmt: skip
def test_published_numbers(name, space, fields):
    preset = dataclasses.asdict(presets.get_preset(name, space))
    assert {key: preset[key] for key in fields} == fields


def test_the_factor_of_cosines_has_the_familys_limit():
    preset = presets.get_preset("tips", "ade150", {"logit_scale": "197.4"})
    presets.check_scale(preset, FAMILIES["tipsv2"].max_scale)
    with pytest.raises(ValueError, match="logit_scale 197.4 is above 100, the largest"):
        presets.check_scale(preset, FAMILIES["clip"].max_scale)
    for odd in ("-1", "nan", "inf"):
        with pytest.raises(ValueError, match="logit_scale .* must be finite and not negative"):
            presets.get_preset("tips", "ade150", {"logit_scale": odd})


def test_naming_by_pixels_takes_no_rule_of_segments():
    for override, sentence in (
        ({"threshold_rule": "window"}, "needs threshold_rule=constant"),
        ({"image_filter": "topk_product"}, "needs image_filter=none"),
    ):
        with pytest.raises(ValueError, match=sentence):
            presets.get_preset("sclip", "voc21", override)
    with pytest.raises(ValueError, match="names=best needs naming=pixels"):
        presets.get_preset("zeroseg", "voc21", {"names": "best"})
    with pytest.raises(ValueError, match="seen_discount needs naming=pixels"):
        presets.get_preset("zeroseg", "voc21", {"seen_discount": "0.1"})
    with pytest.raises(ValueError, match="seen_discount needs refine=pamr or refine=none"):
        presets.get_preset("zss", "voc20", {"seen_discount": "0.1", "refine": "guided"})
    with pytest.raises(ValueError, match=r"seen_discount 2.0 is outside \[0, 1\]"):
        presets.get_preset("zss", "voc20", {"seen_discount": "2"})


def test_a_window_size_needs_sliding_windows():
    with pytest.raises(ValueError, match="window_px=48 has no effect with window=same_area"):
        presets.get_preset("zeroseg", "playground/full", {"window_px": "48"})
    changes = {"window_px": "48", "window": "sliding"}
    assert presets.get_preset("zeroseg", "playground/full", changes).window_px == 48
    with pytest.raises(ValueError, match="window is 'all', not one of sliding, whole, same_area"):
        presets.get_preset("zeroseg", "voc21", {"window": "all"})
