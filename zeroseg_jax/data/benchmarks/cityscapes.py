"""Cityscapes: 500 images of three towns, 19 classes."""

from __future__ import annotations

from pathlib import Path

from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    build_benchmark,
    find_root,
    list_folder,
    match,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table

ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
# Evaluated label ids in the order of train ids; the other ids up to 33 are ignored.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "cityscapes19".

    Masks are the published *_labelIds.png. They are mapped to train ids while reading.

    Args:
      name: name of the benchmark.
      data_dir: folder of leftImg8bit and gtFine.

    Raises:
      LayoutError: images or masks are missing.
    """
    root = find_root(
        data_dir,
        ("leftImg8bit/val", "gtFine/val"),
        ("", "cityscapes"),
        f"unpack {ARCHIVES[0]} and {ARCHIVES[1]} in {data_dir}.",
    )
    ids = {value: number for number, value in enumerate(EVALUATED)}
    return build_benchmark(
        name,
        listing=match(
            _list_towns(root / "leftImg8bit" / "val", "_leftImg8bit.png"),
            _list_towns(root / "gtFine" / "val", "_gtFine_labelIds.png"),
            root / "gtFine" / "val",
            ending="_gtFine_labelIds.png",
            in_subfolders=True,
        ),
        encoding=Encoding(
            build_table(ids, [value for value in range(34) if value not in ids]),
            hint="The masks may have train ids; use the published *_labelIds.png.",
        ),
        official_images=(500,),
    )


def _list_towns(folder: Path, ending: str) -> dict[str, Path]:
    towns = sorted(path for path in folder.iterdir() if path.is_dir())
    return {name: path for town in towns for name, path in list_folder(town, ending).items()}
