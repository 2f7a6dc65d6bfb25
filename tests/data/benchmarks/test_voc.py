"""Pascal VOC in the layout of its archive."""

import layouts
import numpy as np
from PIL import Image

from zeroseg_jax.data.benchmarks import get_benchmark


def test_voc_palette_is_read_as_indices(tmp_path):
    raw = layouts.write_voc(tmp_path)
    path = next((tmp_path / "VOCdevkit/VOC2012/SegmentationClass").iterdir())
    colours = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0)
    assert [224, 224, 192] in colours.tolist()  # what a reader of colours would see as void
    layouts.check_labels(get_benchmark("voc21", data_dir=tmp_path), raw,
                 {0: 0, 1: 1, 15: 15, 20: 20, 255: -1})  # fmt: skip
    twenty = get_benchmark("voc20", data_dir=tmp_path / "VOCdevkit")
    layouts.check_labels(twenty, raw, {0: -1, 1: 0, 15: 14, 20: 19, 255: -1})
    assert twenty.class_names[14] == "person" and not twenty.has_background
    assert get_benchmark("voc21", data_dir=tmp_path).class_names[:2] == ("background", "aeroplane")
