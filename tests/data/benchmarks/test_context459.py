"""Pascal Context with 459 classes, from MATLAB files."""

import layouts
import numpy as np
import pytest
from scipy.io import savemat

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError
from zeroseg_jax.data.benchmarks.masks import MaskError


def test_matlab_files(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2010"
    layouts.picture(root / "JPEGImages/2008_000002.jpg")
    (root / "trainval").mkdir()
    raw = layouts.draw([1, 2, 260, 459], 1)
    savemat(root / "trainval/2008_000002.mat", {"LabelMap": raw.astype(np.uint16)})
    with pytest.raises(LayoutError, match="val.txt: missing; run zeroseg verify"):
        get_benchmark("context459", data_dir=tmp_path)
    (root / "pascalcontext_val.txt").write_text("2008_000002\n")
    benchmark = get_benchmark("context459", data_dir=tmp_path)
    np.testing.assert_array_equal(benchmark[0]["label"], raw - 1)
    assert benchmark.class_names[0] == "accordion" and len(benchmark.class_names) == 459
    (root / "trainval/2008_000002.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(MaskError, match="no LabelMap in it"):
        benchmark[0]
