"""ImageNet-S: classes from the folders, names from WordNet ids."""

import layouts
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError
from zeroseg_jax.data.benchmarks.word_lists import (
    load_imagenet_words,
)


def test_imagenet_s(tmp_path):
    wnids = sorted(load_imagenet_words())[::20]
    raw = layouts.write_imagenet_s(tmp_path, wnids)
    benchmark = get_benchmark("imagenet_s50", data_dir=tmp_path)
    layouts.check_labels(benchmark, raw, {0: 0, 1: 1, 50: 50, 1000: -1})
    assert len(benchmark.class_names) == 51 and benchmark.absent_as_zero
    names = load_imagenet_words()
    assert [row[0] for row in benchmark.words] == [names[wnid][0] for wnid in wnids]
    (tmp_path / "ImageNetS50/validation-segmentation" / wnids[7]).rmdir()
    with pytest.raises(LayoutError, match="49 folders of classes, but the split has 50"):
        get_benchmark("imagenet_s50", data_dir=tmp_path)


def test_imagenet_s_merges_words_and_refuses_strangers(tmp_path):
    wnids = sorted({*sorted(load_imagenet_words())[:49], "n03832673"})
    layouts.write_imagenet_s(tmp_path, wnids)
    benchmark = get_benchmark("imagenet_s50", data_dir=tmp_path)
    assert {"laptop", "notebook computer"} <= set(benchmark.words[-1])
    (tmp_path / "ImageNetS50/validation-segmentation/n99999999").mkdir()
    with pytest.raises(LayoutError, match="not a class of ImageNet"):
        get_benchmark("imagenet_s50", data_dir=tmp_path)
