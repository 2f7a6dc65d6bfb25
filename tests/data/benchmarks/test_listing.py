"""Listings of files: sizes, EXIF rotation, split files, and misuse of get_benchmark."""

import layouts
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.listing import LayoutError, SizeError


def test_sizes_differ(tmp_path):
    layouts.write_folder(tmp_path, count=1)
    layouts.picture(tmp_path / "images" / "p0.jpg", size=(12, 18))
    with pytest.raises(SizeError, match=r"p0.png: 17 x 12 px, but p0.jpg is 18 x 12 px"):
        _ = get_benchmark("folder", data_dir=tmp_path)[0]


def test_exif_is_followed_as_far_as_the_mask_fits(tmp_path):
    raw = layouts.write_folder(tmp_path, count=1)["p0"]
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = layouts.picture(tmp_path / "images" / "p0.png")
    (tmp_path / "images" / "p0.jpg").unlink()
    layouts.save(pixels, tmp_path / "images" / "p0.png", exif=exif)
    stored = get_benchmark("folder", data_dir=tmp_path)[0]  # drawn on the pixels as stored
    np.testing.assert_array_equal(stored["image"], pixels)
    layouts.save(np.rot90(raw, -1), tmp_path / "masks" / "p0.png")
    turned = get_benchmark("folder", data_dir=tmp_path)[0]
    np.testing.assert_array_equal(turned["image"], np.rot90(pixels, -1))


def test_misuse_of_get_benchmark(tmp_path):
    for arguments, message in (
        ({"name": "voc12"}, "did you mean voc2"),
        ({"name": "voc21"}, "--data_dir: empty; name the folder of voc21"),
        ({"name": "voc21", "data_dir": tmp_path / "none"}, "is not a directory"),
        ({"name": "voc21", "data_dir": tmp_path, "ignore": 0}, "only for folder, not for voc21"),
        ({"name": "voc21", "data_dir": tmp_path, "seed": 1}, "--scene_seed"),
        ({"name": "voc21", "data_dir": tmp_path}, "unpack VOCtrainval_11-May-2012.tar"),
        ({"name": "coco_object", "data_dir": tmp_path}, "unpack val2017.zip"),
        ({"name": "ade150", "data_dir": tmp_path}, "unpack ADEChallengeData2016.zip"),
        ({"name": "cityscapes19", "data_dir": tmp_path}, "unpack leftImg8bit"),
        ({"name": "imagenet_s", "data_dir": tmp_path}, "ImageNetS919"),
        ({"name": "context59", "data_dir": tmp_path}, "trainval_merged.json"),
    ):
        with pytest.raises(ValueError, match=message):
            get_benchmark(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image is listed"),
        ("a\na\n", "a is listed twice"),
        ("../a\n", "not a plain"),
    ],
)
def test_bad_split_files(tmp_path, text, message):
    layouts.write_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text(text)
    with pytest.raises(LayoutError, match=message):
        get_benchmark("voc21", data_dir=tmp_path)
