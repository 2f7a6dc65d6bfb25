"""Data sets of MESS: each in the layout that its archive unpacks to, with known labels."""

import layouts
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.benchmarks import get_benchmark, open_files, verify
from zeroseg_jax.data.benchmarks.listing import LayoutError
from zeroseg_jax.data.benchmarks.masks import MaskError
from zeroseg_jax.data.benchmarks.mess import SOURCES

# name -> image, mask, how the mask stores values, class of each value (-1: ignored). Written from
# MESS's preparation scripts, by hand.
OFFICIAL = {
    "bdd100k": ("bdd100k/images/10k/val/7d06fefd-f7be05a6.jpg",
                "bdd100k/labels/sem_seg/masks/val/7d06fefd-f7be05a6.png", "index",
                {0: 0, 1: 1, 18: 18, 255: -1}),
    "dark_zurich": ("Dark_Zurich/rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
                    "Dark_Zurich/gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelIds.png",
                    "invalid", {0: 0, 7: 1, 8: 2, 33: 19, 255: -1}),
    "foodseg103": ("FoodSeg103/Images/img_dir/test/00000048.jpg",
                   "FoodSeg103/Images/ann_dir/test/00000048.png", "index", {0: 0, 1: 1, 103: 103}),
    "atlantis": ("atlantis/images/test/canal/1.jpg", "atlantis/masks/test/canal/1.png", "index",
                 {0: -1, 1: 0, 7: 6, 56: 55}),
    "dram": ("DRAM_processed/test/degas/12.jpg", "DRAM_processed/labels/degas/12.png", "index",
             {0: 11, 1: 11, 3: 0, 12: 6, 15: 8, 17: 10, 20: 11, 255: -1}),
    "suim": ("SUIM/TEST/images/d_r_58_.jpg", "SUIM/TEST/masks/d_r_58_.bmp",
             [(0, 0, 0), (0, 0, 255), (0, 255, 0), (0, 255, 255), (255, 0, 0), (255, 0, 255),
              (255, 255, 0), (255, 255, 255)], dict(enumerate(range(8)))),
    "pst900": ("PST900_RGBT_Dataset/test/thermal/107_bag21.png",
               "PST900_RGBT_Dataset/test/labels/107_bag21.png", "index", {0: 0, 1: 1, 4: 4}),
    "corrosion_cs": ("Corrosion Condition State Classification/original/Test/images/7.jpeg",
                     "Corrosion Condition State Classification/original/Test/masks/7.png", "index",
                     {0: 0, 1: 1, 3: 3}),
    "deepcrack": ("DeepCrack/test_img/11113.jpg", "DeepCrack/test_lab/11113.png", "index",
                  {0: 0, 255: 1}),
    "chase_db1": ("CHASEDB1/Image_11L.jpg", "CHASEDB1/Image_11L_1stHO.png", "bit", {0: 0, 1: 1}),
    "kvasir_instrument": ("kvasir-instrument/images/ckcu8.jpg", "kvasir-instrument/masks/ckcu8.png",
                          [(0, 0, 0), (255, 255, 255)], {0: 0, 1: 1}),
    "zerowaste": ("zerowaste-f/splits_final_deblurred/test/data/05_frame_008600.PNG",
                  "zerowaste-f/splits_final_deblurred/test/sem_seg/05_frame_008600.PNG", "index",
                  {0: 0, 1: 1, 4: 4}),
    "cub_200": ("CUB_200_2011/images/012.Yellow_headed_Blackbird/Y_0003_8337.jpg",
                "CUB_200_2011/segmentations/012.Yellow_headed_Blackbird/Y_0003_8337.png", "index",
                {0: 0, 51: 0, 128: 0, 129: 12, 255: 12}),
    "cwfid": ("cwfid/images/044_image.png", "cwfid/annotations/044_annotation.png",
              [(0, 0, 0), (255, 0, 0), (0, 255, 0)], {0: 0, 1: 1, 2: 2}),
}  # fmt: skip


def write(name, root):
    """Write one image with its mask and the lists of the split; return the true labels."""
    image, mask, form, table = OFFICIAL[name]
    layouts.picture(root / image)
    raw = layouts.draw(list(table), 3)
    values = raw.astype(np.uint8)
    if isinstance(form, list):
        values = np.array(form, np.uint8)[raw]
    elif form == "bit":
        values = raw.astype(bool)
    elif form == "invalid":
        invalid = np.where(raw == 255, 255, 0).astype(np.uint8)
        layouts.save(invalid, root / mask.replace("labelIds", "invGray"))
        values[raw == 255] = 24  # the label of an invalid pixel means nothing
    layouts.save(values, root / mask)
    if name == "chase_db1":
        for number in range(8):
            layouts.picture(root / f"CHASEDB1/Image_0{number}L.jpg")
    if name == "cub_200":
        folder = root / "CUB_200_2011"
        birds = "012.Yellow_headed_Blackbird"
        layouts.picture(folder / f"images/{birds}/Y_0001.jpg")  # an image for training
        (folder / "images.txt").write_text(f"1 {birds}/Y_0001.jpg\n2 {birds}/Y_0003_8337.jpg\n")
        (folder / "train_test_split.txt").write_text("1 1\n2 0\n")
    if name == "kvasir_instrument":
        layouts.picture(root / "kvasir-instrument/images/training.jpg")
        (root / "kvasir-instrument/test.txt").write_text("ckcu8\n")
    if name == "cwfid":
        layouts.picture(root / "cwfid/images/002_image.png")
    return np.vectorize(table.__getitem__)(raw)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_layout(name, tmp_path):
    with pytest.raises(LayoutError):
        get_benchmark(name, data_dir=tmp_path)
    truth = write(name, tmp_path)
    benchmark = get_benchmark(name, data_dir=tmp_path)
    assert len(benchmark) == 1 and not benchmark.has_background
    item = benchmark[0]
    np.testing.assert_array_equal(item["label"], truth)
    assert item["image"].shape == (*truth.shape, 3)
    findings = verify.check(open_files(name, tmp_path), log=lambda line: None)
    assert set(findings.problems) == {"count"}  # one image is not the split
    assert findings.histogram.sum() == truth.size


def test_every_data_set_has_a_layout_here():
    assert OFFICIAL.keys() == SOURCES.keys()


def test_names_carry_the_artist(tmp_path):
    write("dram", tmp_path)
    assert get_benchmark("dram", data_dir=tmp_path).names == ("degas_12",)


def test_a_colour_without_a_class_is_named(tmp_path):
    write("suim", tmp_path)
    path = tmp_path / OFFICIAL["suim"][1]
    image = Image.open(path).convert("RGB")
    image.putpixel((0, 0), (1, 2, 3))
    image.save(path)
    with pytest.raises(MaskError, match=r"colour \(1, 2, 3\) is no class"):
        get_benchmark("suim", data_dir=tmp_path)[0]


def test_lists_that_are_missing_or_damaged(tmp_path):
    for name, file in (("cub_200", "CUB_200_2011/images.txt"),
                       ("kvasir_instrument", "kvasir-instrument/test.txt")):  # fmt: skip
        write(name, tmp_path)
        (tmp_path / file).unlink()
        with pytest.raises(LayoutError, match=f"{file}: missing"):
            get_benchmark(name, data_dir=tmp_path)
    (tmp_path / "CUB_200_2011/images.txt").write_text("1\n")
    with pytest.raises(LayoutError, match="a line has not two words"):
        get_benchmark("cub_200", data_dir=tmp_path)
