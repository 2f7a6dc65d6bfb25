"""Files of a result: marks, refusals, cut-outs, polygons."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from zeroseg_jax.inference import outputs
from zeroseg_jax.inference.segmentation import Segmentation


@pytest.fixture
def result():
    y, x = np.mgrid[:60, :80]
    mask = ((y - 30) ** 2 + (x - 30) ** 2 < 400).astype(np.uint8)
    mask[28:33, 27:34] = 0  # a hole
    mask[40:50, 60:75] = 2
    image = np.dstack([y * 4, x * 3, y + x]).astype(np.uint8)
    scores = np.full(mask.shape, 0.75, np.float32)
    names = ("background", "red car", "dog/cat", "moon")
    return Segmentation(image, mask, scores, mask, names, "m")


def test_files_are_marked_and_may_be_written_again(result, tmp_path):
    for _ in range(2):
        paths = result.save(tmp_path, "a", cutout=True, polygons="coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.json", "a_coco.json", "a_cutout_dog-cat.png", "a_cutout_red-car.png", "a_mask.png",
        "a_overlay.png",
    ]  # fmt: skip
    assert set(paths.values()) == set(tmp_path.iterdir())
    np.testing.assert_array_equal(np.asarray(Image.open(paths["mask"])), result.mask)


@pytest.mark.parametrize("name", ["a.json", "a_mask.png", "a_coco.json", "a_cutout_red-car.png"])
def test_a_file_of_somebody_else_is_kept_and_nothing_is_written(result, tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".png":
        Image.new("L", (3, 3)).save(path)
    else:
        path.write_text(json.dumps({"version": "5", "shapes": []}))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{name}: exists and was not written by"):
        result.save(tmp_path, "a", cutout=True, polygons="coco")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_input_is_not_replaced_even_if_this_program_wrote_it(result, tmp_path):

    overlay = result.save(tmp_path, "a")["overlay"]
    again = dataclasses.replace(result, source=str(overlay))
    with pytest.raises(ValueError, match="is an input image; name another output folder"):
        again.save(tmp_path, "a")


@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_an_input_under_another_name_is_not_replaced(result, tmp_path, link):
    (tmp_path / "photos").mkdir()
    written = result.save(tmp_path / "photos", "b")["overlay"]
    before = written.read_bytes()
    getattr(tmp_path / "a_overlay.png", link)(written)
    with pytest.raises(ValueError, match="a_overlay.png: is an input image"):
        result.save(tmp_path, "a", inputs=["nowhere.png", written])
    assert written.read_bytes() == before and not (tmp_path / "a.json").exists()
    result.save(tmp_path, "a", inputs=["nowhere.png"])


def test_a_cutout_is_opaque_inside_and_clear_outside(result, tmp_path):
    path = result.save(tmp_path, "a", cutout=True)["cutout dog/cat"]
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (14, 19, 4)  # 10 x 15 and two pixels around
    alpha = pixels[..., 3]
    assert (alpha[4:10, 4:15] == 255).all() and (alpha[0] == 0).all()
    assert 0 < alpha[6, 1] < 255 or 0 < alpha[6, 2] < 255
    np.testing.assert_array_equal(pixels[5, 5, :3], result.image[43, 63])


def test_coco_codes_give_the_mask_back(result):
    content = outputs.build_coco(result.mask, result.found_classes, "")
    assert [c["name"] for c in content["categories"]] == ["red car", "dog/cat"]
    for annotation in content["annotations"]:
        counts = annotation["segmentation"]["counts"]
        values = np.arange(len(counts)) % 2
        decoded = np.repeat(values, counts).reshape(annotation["segmentation"]["size"], order="F")
        inside = result.mask == annotation["category_id"]
        np.testing.assert_array_equal(decoded, inside)
        y, x = np.nonzero(inside)
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation["area"] == inside.sum()


def test_polygons_cover_the_class_with_its_holes(result):
    pytest.importorskip("contourpy")
    content = outputs.build_geojson(result.mask, result.found_classes)
    car, dog = content["features"]
    assert car["properties"]["word"] == "red car" and car["properties"]["score"] == 0.75
    (polygon,) = car["geometry"]["coordinates"]
    assert len(polygon) == 2  # the outer ring and the hole
    canvas = Image.new("L", (80 * 8, 60 * 8))
    draw = ImageDraw.Draw(canvas)
    for ring, fill in zip(polygon, (1, 0), strict=True):
        assert ring[0] == ring[-1]
        draw.polygon([(8 * x, 8 * y) for x, y in ring], fill=fill)
    filled = np.asarray(canvas)[4::8, 4::8]  # at pixel centres
    np.testing.assert_array_equal(filled, result.mask == 1)
    ((ring,),) = dog["geometry"]["coordinates"]
    assert len(ring) <= 9  # straight sides have no points between


def test_polygons_without_their_extra_are_refused_in_one_sentence(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "contourpy", None)
    with pytest.raises(ValueError, match=r'needs the extra "polygons"; pip install'):
        result.save(tmp_path, "a", polygons="geojson")
    with pytest.raises(ValueError, match="'svg' is not one of geojson, coco"):
        result.save(tmp_path, "a", polygons="svg")
    assert not list(tmp_path.iterdir())
