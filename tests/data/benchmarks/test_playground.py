"""Benchmarks of the Playground: the same scenes, several label spaces."""

import numpy as np
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark


def test_benchmarks_share_scenes_and_differ_in_labels():
    things, full = get_benchmark("playground/things"), get_benchmark("playground/full")
    colours = get_benchmark("playground/colours")
    a, b, c = things[4], full[4], colours[4]
    np.testing.assert_array_equal(a["image"], b["image"])
    np.testing.assert_array_equal(a["label"] > 0, b["label"] < 12)
    np.testing.assert_array_equal(a["label"] > 0, c["label"] > 0)
    inside = a["label"] > 0
    np.testing.assert_array_equal(a["label"][inside] - 1, b["label"][inside])
    for benchmark in (things, full, colours, get_benchmark("playground/held-out")):
        assert len(benchmark.class_names) == len(benchmark.words) + benchmark.has_background
        assert benchmark[0]["label"].max() < len(benchmark.class_names)
    with pytest.raises(ValueError, match="did you mean playground/things"):
        get_benchmark("playground/thing")
