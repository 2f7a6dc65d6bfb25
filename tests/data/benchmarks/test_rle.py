"""Run lengths, against masks of COCO's own tool and an encoder in layouts.py."""

import layouts
import numpy as np
import pytest

from zeroseg_jax.data.benchmarks import rle


def test_runs():
    # Written by COCO's own tool.
    block = np.zeros((7, 11), bool)
    block[2:5, 3:9] = block[0, 0] = True
    np.testing.assert_array_equal(rle.decode("01f02^O000000000<", 7, 11), block)
    wide = np.zeros((500, 1500), bool)
    wide[100:400, 700] = wide[:, 900:] = True
    np.testing.assert_array_equal(rle.decode("dle:\\9`XQ3deT9", 500, 1500), wide)
    rng = np.random.default_rng(0)
    for i in range(40):
        mask = rng.random(rng.integers(1, 60, 2)) < rng.random()
        mask[:] = mask if i % 9 else i % 2
        runs = layouts.runs_of(mask)
        np.testing.assert_array_equal(rle.decode(runs, *mask.shape), mask)
        np.testing.assert_array_equal(rle.decode(layouts.letters_of(runs), *mask.shape), mask)
    for counts, reason in (
        ("01f0\n", "letter"),
        ("01f02^", "end within"),
        ("01f02", "cover"),
        ([3, -1, 75], "cover"),
        ("o" * 30 + "0", "60 bits"),
        ("", "cover"),
    ):
        with pytest.raises(ValueError, match=reason):
            rle.decode(counts, 7, 11)
