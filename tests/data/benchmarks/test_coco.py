"""COCO-Stuff and COCO-Object in every accepted layout."""

import layouts
import pytest
from PIL import Image

from zeroseg_jax.data.benchmarks import get_benchmark


@pytest.mark.parametrize(
    "place",
    [
        ("val2017", "val2017"),
        ("images/val2017", "annotations/val2017"),
        ("val2017", "stuffthingmaps/val2017"),
    ],
)
def test_coco(tmp_path, place):
    raw = layouts.write_coco(tmp_path)
    for name in raw:  # where other tools put things
        for folder, ending in zip(place, ("jpg", "png"), strict=True):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            old = tmp_path / "val2017" / f"{name}.{ending}"
            old.rename(tmp_path / folder / old.name)
    Image.new("L", (3, 3)).save(tmp_path / place[1] / f"{next(iter(raw))}_labelTrainIds.png")
    stuff = get_benchmark("coco_stuff171", data_dir=tmp_path)
    # 11 has no class, so 12 is the 12th thing; 91 and 181 are the first and the last stuff.
    layouts.check_labels(stuff, raw, {0: 0, 10: 10, 12: 11, 89: 79, 91: 80, 181: 170, 255: -1})
    assert [stuff.class_names[i] for i in (11, 79, 80, 170)] == [
        "stop sign", "toothbrush", "banner", "wood"]  # fmt: skip
    things = get_benchmark("coco_object", data_dir=tmp_path)
    layouts.check_labels(things, raw, {0: 1, 10: 11, 12: 12, 89: 80, 91: 0, 181: 0, 255: 0})
    assert [things.class_names[i] for i in (0, 1, 80)] == ["background", "person", "toothbrush"]
    assert not stuff.listing.spare
