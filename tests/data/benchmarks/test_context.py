"""Pascal Context: conversion of the published annotations, resumed and refused."""

import layouts
import pytest

from zeroseg_jax.data.benchmarks import context, get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError


def test_context_from_json(tmp_path):
    labels = layouts.write_context(tmp_path)
    with pytest.raises(LayoutError, match="--convert"):
        get_benchmark("context60", data_dir=tmp_path)
    assert context.convert(tmp_path, log=lambda line: None) == 3
    # The training split is written too, for CLIP-ZSS.
    root = tmp_path / "VOCdevkit/VOC2010"
    lists = {p.stem: p.read_text() for p in (root / "ImageSets/SegmentationContext").iterdir()}
    assert lists == {"val": "2008_000002\n2008_000003\n", "train": "2008_000099\n"}
    assert (root / "SegmentationClassContext/2008_000099.png").is_file()
    layouts.check_labels(get_benchmark("context60", data_dir=tmp_path), labels,
                 {0: 0, 1: 1, 2: 2, 3: 3, 59: 59})  # fmt: skip
    fewer = get_benchmark("context59", data_dir=tmp_path)
    layouts.check_labels(fewer, labels, {0: -1, 1: 0, 2: 1, 3: 2, 59: 58})
    assert fewer.class_names[0] == "aeroplane" and fewer.class_names[58] == "wood"


def test_context_conversion_goes_on_where_it_stopped(tmp_path):
    layouts.write_context(tmp_path)
    lines = []
    context.convert(tmp_path, log=lines.append)
    root = tmp_path / "VOCdevkit/VOC2010"
    masks = sorted((root / "SegmentationClassContext").iterdir())
    kept, lost = masks[0].stat(), masks[1]
    lost.unlink()
    (root / "ImageSets/SegmentationContext/val.txt").unlink()
    assert context.convert(tmp_path, log=lines.append) == 1
    assert masks[0].stat().st_mtime_ns == kept.st_mtime_ns and lost.exists()
    assert len(get_benchmark("context59", data_dir=tmp_path)) == 2
    assert not [path for path in root.rglob("*.part")]


def test_context_says_what_its_json_lacks(tmp_path):
    layouts.write_context(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2010/trainval_merged.json"
    good = path.read_text()
    cases = [
        (good.replace('"category_id": 2,', '"category_id": 3,'), None),
        (good[: len(good) // 2], "not valid JSON"),
        (good.replace("annos_segmentation", "annotations"), "annos_segmentation"),
        (good.replace('"size": [12, 17]', '"size": [17, 12]'), "size"),
        (good.replace('"counts": [', '"counts": [1, '), "pixels"),
        (good.replace('"val"', '"test"'), "no image of phase 'val'"),
    ]
    for text, message in cases:
        assert text != good
        path.write_text(text)
        for mask in (path.parent / "SegmentationClassContext").glob("*"):
            mask.unlink()
        if message:
            with pytest.raises(ValueError, match=message) as caught:
                context.convert(tmp_path, log=lambda line: None)
            assert str(path) in str(caught.value)
        else:  # a category outside of the 59 is ignored, and said
            lines = []
            context.convert(tmp_path, log=lines.append)
            assert "3 regions of other categories" in lines[-1]
            assert (get_benchmark("context60", data_dir=tmp_path)[0]["label"] == -1).any()
