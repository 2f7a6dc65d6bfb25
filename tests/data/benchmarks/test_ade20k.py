"""ADE20K in the layout of its archive."""

import layouts

from zeroseg_jax.data.benchmarks import get_benchmark


def test_ade(tmp_path):
    raw = layouts.write_ade(tmp_path)
    benchmark = get_benchmark("ade150", data_dir=tmp_path)
    layouts.check_labels(benchmark, raw, {0: -1, 1: 0, 2: 1, 150: 149})
    assert [benchmark.class_names[i] for i in (0, 149)] == ["wall", "flag"]
