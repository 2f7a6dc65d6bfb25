"""ImageNet-S: masks of 919, 300 or 50 ImageNet classes."""

from __future__ import annotations

import re
from pathlib import Path

from zeroseg_jax.data.benchmarks.listing import (
    BACKGROUND,
    FileBenchmark,
    LayoutError,
    find_root,
    list_folder,
    match,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table, read_rgb_values
from zeroseg_jax.data.benchmarks.word_lists import load_imagenet_words

# name -> folder, number of classes, images of the validation split
SPLITS = {
    "imagenet_s": ("ImageNetS919", 919, 12_419),
    "imagenet_s300": ("ImageNetS300", 300, 4_097),
    "imagenet_s50": ("ImageNetS50", 50, 752),
}
# Five classes were merged into others, which keep the names of both.
_MERGED = {
    "n04355933": "n04356056",
    "n02808440": "n04493381",
    "n03832673": "n03642806",
    "n03773504": "n04008634",
    "n15075141": "n03887697",
}
_IGNORED = 1000
_WNID = re.compile(r"n\d{8}")


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "imagenet_s", "imagenet_s300" or "imagenet_s50".

    Masks are RGB PNGs with id = red + 256 * green, 0 for other things and 1000 for ignored
    pixels. Class k is the k-th WordNet id in sorted order. The folders of the validation split
    give the WordNet ids.

    Args:
      name: name of the benchmark.
      data_dir: folder of ImageNetS919, ImageNetS300 or ImageNetS50.

    Raises:
      LayoutError: the split is missing, or has another number of classes.
    """
    folder, classes, images = SPLITS[name]
    root = find_root(
        data_dir,
        ("validation", "validation-segmentation"),
        (folder, ""),
        f"unpack the {folder} archive of masks in {data_dir} and copy the images of ILSVRC2012 "
        "beside them with the data set's own script.",
    )
    masks = root / "validation-segmentation"
    wnids = _list_wnids(masks, classes)
    known = load_imagenet_words()
    words = tuple(known[wnid] + known.get(_MERGED.get(wnid, ""), ()) for wnid in wnids)
    return FileBenchmark(
        name,
        (BACKGROUND, *(row[0] for row in words)),
        words,
        has_background=True,
        listing=match(
            _list_classes(root / "validation", ".JPEG"),
            _list_classes(masks, ".png"),
            masks,
            in_subfolders=True,
        ),
        encoding=Encoding(
            build_table({i: i for i in range(classes + 1)}, (_IGNORED,)), read_rgb_values
        ),
        official_images=(images,),
        absent_as_zero=True,
    )


def _list_wnids(folder: Path, classes: int) -> list[str]:
    wnids = sorted(path.name for path in folder.iterdir() if _WNID.fullmatch(path.name))
    strange = sorted(set(wnids) - set(load_imagenet_words()))
    if strange:
        raise LayoutError(f"{folder / strange[0]}: not a class of ImageNet; remove the folder.")
    if len(wnids) != classes:
        raise LayoutError(
            f"{folder}: {len(wnids)} folders of classes, but the split has {classes}; unpack the "
            "archive again."
        )
    return wnids


def _list_classes(folder: Path, ending: str) -> dict[str, Path]:
    wnids = sorted(path for path in folder.iterdir() if _WNID.fullmatch(path.name))
    return {name: path for wnid in wnids for name, path in list_folder(wnid, ending).items()}
