"""COCO val2017: 5,000 images as COCO-Stuff (171 or 27 classes) or COCO-Object (80 things).

Both are read from the published stuff-and-thing maps, grey PNGs with COCO's id minus one. No
conversion is needed.
"""

from __future__ import annotations

from pathlib import Path

from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    LayoutError,
    build_benchmark,
    list_folder,
    match,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table

ARCHIVES = ("val2017.zip", "stuffthingmaps_trainval2017.zip")
# COCO's ids go up to 182; eleven of them have no class.
_UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_VALUES = tuple(value for value in range(182) if value not in _UNUSED)
_THINGS = 80
# Supercategory of each value, in the order of PiCIE and STEGO.
_SUPERCATEGORIES = (
    9, 11, 11, 11, 11, 11, 11, 11, 11, 8, 8, 8, 8, 8, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6,
    6, 6, 6, 6, 6, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 5, 5, 5, 5, 5, 5, 5, 5, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 4, 4, 4,
    4, 4, 4, 4, 4, 17, 17, 22, 20, 20, 22, 15, 25, 16, 13, 12, 12, 17, 17, 23, 15, 15, 17, 15,
    21, 15, 25, 13, 13, 13, 13, 13, 22, 26, 14, 14, 15, 22, 21, 21, 24, 20, 22, 15, 17, 16, 15,
    22, 24, 21, 17, 25, 16, 21, 17, 22, 16, 21, 21, 25, 21, 26, 21, 24, 20, 17, 14, 21, 26, 15,
    23, 20, 21, 24, 15, 24, 22, 25, 15, 20, 17, 17, 22, 14, 18, 18, 18, 18, 18, 18, 18, 26, 26,
    19, 19, 24,
)  # fmt: skip
_UNLABELLED = 255
# Accepted folders of the images and of the masks.
_PLACES = (
    ("val2017", "val2017"),
    ("images/val2017", "annotations/val2017"),
    ("val2017", "stuffthingmaps/val2017"),
    ("val2017", "stuffthingmaps_trainval2017/val2017"),
)


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "coco_stuff171", "coco_stuff27" or "coco_object".

    COCO-Stuff-27 has the 27 supercategories and all images of val2017. PiCIE and STEGO score 2,175
    of them, cropped to squares of 320 px.

    In COCO-Object everything but the 80 things is background, unlabelled pixels included. No
    pixel is ignored.

    Args:
      name: name of the benchmark.
      data_dir: folder of val2017.

    Raises:
      LayoutError: images or maps are missing.
    """
    images, masks = _find(data_dir)
    stuff = {value: number for number, value in enumerate(_VALUES)}
    has_background = name == "coco_object"
    if has_background:
        things = {value: i + 1 if i < _THINGS else 0 for value, i in stuff.items()}
        table = build_table({**things, _UNLABELLED: 0})
    elif name == "coco_stuff27":
        table = build_table(dict(enumerate(_SUPERCATEGORIES)), (_UNLABELLED,))
    else:
        table = build_table(stuff, (_UNLABELLED,))
    return build_benchmark(
        name,
        has_background=has_background,
        listing=match(images, masks, next(iter(masks.values())).parent),
        encoding=Encoding(
            table, hint=f"The maps of {ARCHIVES[1]} have COCO's id minus one; unpack it again."
        ),
        official_images=(5000,),
    )


def _find(data_dir: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    for images, masks in _PLACES:
        found = [
            list_folder(data_dir / folder, ending) if (data_dir / folder).is_dir() else {}
            for folder, ending in ((images, ".jpg"), (masks, ".png"))
        ]
        # Other tools write their own maps beside the published ones.
        found[1] = {stem: path for stem, path in found[1].items() if "TrainIds" not in stem}
        if all(found):
            return found[0], found[1]
    source = f"unpack {ARCHIVES[0]} and {ARCHIVES[1]} in {data_dir}."
    raise LayoutError(f"{data_dir / 'val2017'}: images or maps are missing; {source}")
