"""Robustness: variants of names, labels restored to the benchmark's classes, and the summary."""

import json

import numpy as np
import pytest
from small_benchmark import SmallBenchmark

from zeroseg_jax.evaluation import runner
from zeroseg_jax.evaluation.confusion import Confusion
from zeroseg_jax.evaluation.name_variants import NameVariant, list_variants, pluralise
from zeroseg_jax.evaluation.robustness import measure_robustness, restore_classes, summarise
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.model import load
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter

NAMES = [["star"], ["ring", "hoop"]]


@pytest.mark.parametrize(
    ("name", "plural"),
    [("dog", "dogs"), ("bus", "buses"), ("potted plant", "potted plants"), ("butterfly",
     "butterflies"), ("toy", "toys"), ("sheep", "sheep"), ("traffic light", "traffic lights"),
     ("person", "people"), ("grass", "grass"), ("wine glass", "wine glasses"), ("bench",
     "benches"), ("robots (auvs)", "robots (auvs)")],
)  # fmt: skip
def test_plurals(name, plural):
    assert pluralise(name) == plural


def test_variants_name_the_same_classes():
    names = [["aeroplane"], ["potted plant"], ["tv monitor", "screen"]] + [["x"]] * 17
    variants = {v.title: v for v in list_variants(names, "voc20", more=[3])}
    assert list(variants)[0] == "as given"
    assert variants["names of sclip"].names[1] == ["bicycle"]
    assert variants["last synonym"].names[2] == ["screen"]
    assert variants["words reversed"].names[1] == ["plant potted"]
    shuffled = variants["classes shuffled"]
    assert [names[i] for i in shuffled.order] == shuffled.names and shuffled.names != names
    assert len(variants["3 distractors"].names) == 23 and variants["3 distractors"].distractors == 3
    assert not {"aeroplane", "plant", "screen"} & set(
        " ".join(name for [name] in variants["3 distractors"].names[20:]).split()
    )
    # The line of the background is no class.
    voc21 = list_variants([["x"]] * 20, "voc21")
    assert {len(v.names) - v.distractors for v in voc21} == {20}


def test_labels_are_restored():
    benchmark = SmallBenchmark(1)
    variant = NameVariant("v", [["a"], ["b"], ["c"]], (1, 0), distractors=1)
    found = restore_classes(np.array([[0, 1, 2, 3]]), variant, benchmark)
    assert found.tolist() == [[0, 2, 1, 3]]


def test_spread_and_worst_case_by_hand():
    variants = [
        NameVariant("as given", NAMES, (0, 1)), NameVariant("other", NAMES, (0, 1)),
        NameVariant("more", NAMES, (0, 1), distractors=2),
        NameVariant("oracle", NAMES, (0, 1), of_image=True),
    ]  # fmt: skip
    ious = [np.array(row) for row in ([0.5, 0.7], [0.6, 0.2], [0.1, 0.1], [0.9, 0.9])]
    found = summarise(variants, ious)
    assert found["spread"] == 20 and found["worst_variant"] == "other"
    assert found["worst_case_miou"] == 35  # mean of 0.5 and 0.2
    assert [row["difference"] for row in found["variants"]] == [0, -20, -50, 30]


def test_variants_through_the_pipeline(tmp_path):
    student = load("playground")
    preset = get_preset(
        "zeroseg", "playground/things", {"background_words": "grass; sky", "refine": "none"}
    )
    benchmark, segmenter = SmallBenchmark(3), ModelSegmenter(student)
    variants = list_variants(NAMES, "small", more=[5])

    def embed(names):
        return embed_class_names(student.teacher, names, preset)

    found = measure_robustness(
        segmenter, benchmark, preset, variants, embed, checkpoint="c", output=tmp_path,
        log=lambda line: None,
    )  # fmt: skip
    assert found == json.loads((tmp_path / "robustness.json").read_text())
    by_title = {row["variant"]: row["miou"] for row in found["variants"]}
    assert by_title["classes shuffled"] == by_title["as given"]
    assert by_title["classes of the image alone"] >= by_title["as given"]
    # As given is what evaluate scores; distractors are wrong wherever they win.
    confusions = {0: Confusion(3), 5: Confusion(4)}
    for count, confusion in confusions.items():
        variant = next(v for v in variants if v.distractors == count)
        for item in benchmark.items:
            labels = runner.segment_image(
                segmenter, item["image"], embed(variant.names), preset
            ).labels
            confusion.add(item["label"], np.minimum(labels, 3))
    assert by_title["as given"] == round(100 * confusions[0].miou(), 2)
    iou = confusions[5].class_iou()[:3]
    assert by_title["5 distractors"] == round(100 * float(np.nanmean(iou)), 2)
    assert (tmp_path / "robustness.md").is_file() and (tmp_path / "robustness.html").is_file()
