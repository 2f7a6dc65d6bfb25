"""Cityscapes in the layout of its archives."""

import layouts

from zeroseg_jax.data.benchmarks import get_benchmark, open_files
from zeroseg_jax.data.benchmarks.verify import check


def test_cityscapes_ids_become_train_ids(tmp_path):
    raw = layouts.write_cityscapes(tmp_path)
    benchmark = get_benchmark("cityscapes19", data_dir=tmp_path)
    layouts.check_labels(benchmark, raw, {0: -1, 7: 0, 8: 1, 9: -1, 26: 13, 33: 18})
    assert [benchmark.class_names[i] for i in (0, 13, 18)] == ["road", "car", "bicycle"]


def test_a_missing_mask_is_named_where_its_archive_has_it(tmp_path):
    layouts.write_cityscapes(tmp_path)
    mask = next((tmp_path / "gtFine" / "val").rglob("*_gtFine_labelIds.png"))
    mask.rename(mask.with_name(mask.name.replace("labelIds", "labelTrainIds")))
    (sentence,) = check(open_files("cityscapes19", tmp_path), lambda line: None).problems["missing"]
    assert sentence.startswith(f"{mask}: missing") and "labelTrainIds.png beside it" in sentence
