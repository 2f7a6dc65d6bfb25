"""Masks of any depth; colours and unknown values are refused by file and value."""

import layouts
import numpy as np
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.masks import MaskError, read_index
from zeroseg_jax.data.benchmarks.word_lists import (
    load_imagenet_words,
)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_folder_reads_any_depth_of_grey(tmp_path, bits):
    values = tuple({0, 1, 2 ** min(bits, 9) - 1})
    raw = layouts.write_folder(tmp_path, [f"w{i}" for i in range(max(values) + 1)], values,
                               count=1, dtype=np.uint16)  # fmt: skip
    layouts.grey_png(raw["p0"], bits, tmp_path / "masks" / "p0.png")
    benchmark = get_benchmark("folder", data_dir=tmp_path, ignore=-1)
    np.testing.assert_array_equal(benchmark[0]["label"], raw["p0"])


def test_masks_of_colours_are_refused(tmp_path):
    layouts.write_folder(tmp_path, count=1)
    path = tmp_path / "masks" / "p0.png"
    for array in (np.zeros((12, 17, 3), np.uint8), np.zeros((12, 17, 4), np.uint8)):
        layouts.save(array, path)
        with pytest.raises(MaskError, match="colours"):
            read_index(path)
    wnids = sorted(load_imagenet_words())[:50]
    layouts.write_imagenet_s(tmp_path, wnids, pictures=1)
    mask = next((tmp_path / "ImageNetS50/validation-segmentation" / wnids[0]).iterdir())
    for array, message in ((np.full((12, 17, 3), 9, np.uint8), "blue is up to 9"),
                           (np.zeros((12, 17), np.uint8), "mode L is not RGB")):  # fmt: skip
        layouts.save(array, mask)
        with pytest.raises(MaskError, match=message):
            _ = get_benchmark("imagenet_s50", data_dir=tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "write", "value", "message"),
    [
        ("voc21", layouts.write_voc, 21, "label 21 .* known labels: 0..20, 255"),
        (
            "coco_stuff171",
            layouts.write_coco,
            11,
            "label 11 .* labels: 0..10, 12..24, 26..27",
        ),
        ("coco_object", layouts.write_coco, 200, "label 200 .* 91..181, 255"),
        ("ade150", layouts.write_ade, 255, "label 255 .* 0..150. .*reduced by another tool"),
        ("cityscapes19", layouts.write_cityscapes, 255, "label 255 .* 0..33. .*train ids"),
        ("folder", layouts.write_folder, 3, "label 3 .* 0..2, 255. words.txt has 3 classes"),
    ],
)
def test_labels_without_a_meaning_name_file_value_and_range(tmp_path, name, write, value, message):
    write(tmp_path, values=(0, value))
    with pytest.raises(MaskError, match=message) as caught:
        _ = get_benchmark(name, data_dir=tmp_path)[0]
    assert ".png" in str(caught.value)
