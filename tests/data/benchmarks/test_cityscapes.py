"""Cityscapes in the layout of its archives."""

import layouts

from zeroseg_jax.data.benchmarks import get_benchmark


def test_cityscapes_ids_become_train_ids(tmp_path):
    raw = layouts.write_cityscapes(tmp_path)
    benchmark = get_benchmark("cityscapes19", data_dir=tmp_path)
    layouts.check_labels(benchmark, raw, {0: -1, 7: 0, 8: 1, 9: -1, 26: 13, 33: 18})
    assert [benchmark.class_names[i] for i in (0, 13, 18)] == ["road", "car", "bicycle"]
