"""ADE20K with 847 classes: official masks, and the files of the public converter."""

import layouts
import numpy as np
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError

# Object id of the official masks -> class id; 5 is no class, 0 is unlabelled.
OBJECTS = {2978: 0, 312: 1, 2420: 2, 0: -1, 5: -1}


def test_official_masks(tmp_path):
    with pytest.raises(LayoutError, match="ADE20K_2021_17_01.zip"):
        get_benchmark("ade847", data_dir=tmp_path)
    folder = tmp_path / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    layouts.picture(folder / "ADE_val_00000001.jpg")
    raw = layouts.draw(list(OBJECTS), 1)
    # The rest of red / 10 and blue are parts and instances.
    rgb = np.stack([raw // 256 * 10 + 3, raw % 256, raw % 7], axis=-1).astype(np.uint8)
    layouts.save(rgb, folder / "ADE_val_00000001_seg.png")
    benchmark = get_benchmark("ade847", data_dir=tmp_path)
    np.testing.assert_array_equal(benchmark[0]["label"], np.vectorize(OBJECTS.__getitem__)(raw))
    assert len(benchmark.class_names) == 847 and benchmark.options == {"masks": "official"}
    layouts.picture(folder / "ADE_val_00000002.jpg")
    with pytest.raises(LayoutError, match="ADE_val_00000002_seg.png: missing"):
        get_benchmark("ade847", data_dir=tmp_path)


def test_files_of_the_public_converter_are_preferred(tmp_path):
    base = tmp_path / "ADE20K_2021_17_01"
    raw = layouts.draw([0, 300, 846, 65535], 1)
    layouts.picture(base / "images_detectron2/validation/ADE_val_00000001.jpg")
    layouts.save(
        raw.astype(np.uint16), base / "annotations_detectron2/validation/ADE_val_00000001.tif"
    )
    benchmark = get_benchmark("ade847", data_dir=tmp_path)
    np.testing.assert_array_equal(benchmark[0]["label"], np.where(raw == 65535, -1, raw))
    assert benchmark.options == {"masks": "converted"}
