"""ADE20K of the 2016 scene parsing challenge: 2,000 images, 150 classes."""

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

ARCHIVE = "ADEChallengeData2016.zip"


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "ade150".

    Masks are grey PNGs: 0 is unlabelled and ignored, 1 to 150 are the classes.

    Args:
      name: name of the benchmark.
      data_dir: folder of ADEChallengeData2016.

    Raises:
      LayoutError: the challenge's data are missing.
    """
    root = find_root(
        data_dir,
        ("images/validation", "annotations/validation"),
        ("ADEChallengeData2016", ""),
        f"unpack {ARCHIVE} in {data_dir}.",
    )
    masks = root / "annotations" / "validation"
    return build_benchmark(
        name,
        listing=match(
            list_folder(root / "images" / "validation", ".jpg"),
            list_folder(masks, ".png"),
            masks,
        ),
        encoding=Encoding(
            build_table({i: i for i in range(151)}, reduce_zero=True),
            hint=f"The masks may be reduced by another tool; unpack {ARCHIVE} again.",
        ),
        official_images=(2000,),
    )
