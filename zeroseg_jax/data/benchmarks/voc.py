"""Pascal VOC 2012: 1,449 images, 20 classes, with or without a background."""

from __future__ import annotations

from pathlib import Path

from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    build_benchmark,
    find_root,
    list_named,
    read_split,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table

ARCHIVE = "VOCtrainval_11-May-2012.tar"
_SPLIT = "ImageSets/Segmentation/val.txt"


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "voc21" or "voc20".

    Masks are palette PNGs: 0 is the background, 1 to 20 are the classes, 255 is the border of
    objects. "voc20" ignores the background.

    Args:
      name: name of the benchmark.
      data_dir: folder of VOCdevkit.

    Raises:
      LayoutError: VOC 2012 is missing.
    """
    root = find_root(
        data_dir,
        (_SPLIT, "JPEGImages", "SegmentationClass"),
        ("VOCdevkit/VOC2012", "VOC2012", ""),
        f"unpack {ARCHIVE} in {data_dir}.",
    )
    has_background = name == "voc21"
    table = build_table({i: i for i in range(21)}, (255,), reduce_zero=not has_background)
    return build_benchmark(
        name,
        has_background=has_background,
        listing=list_named(
            read_split(root / _SPLIT), root / "JPEGImages", root / "SegmentationClass"
        ),
        encoding=Encoding(
            table, hint="The masks may be of another data set, or reduced by another tool."
        ),
        official_images=(1449,),
    )
