"""COCO val2017: 5,000 images as COCO-Stuff (171 classes) or COCO-Object (80 and background).

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
_UNLABELLED = 255
# Accepted folders of the images and of the masks.
_PLACES = (
    ("val2017", "val2017"),
    ("images/val2017", "annotations/val2017"),
    ("val2017", "stuffthingmaps/val2017"),
    ("val2017", "stuffthingmaps_trainval2017/val2017"),
)


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "coco_stuff171" or "coco_object".

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
