"""Pascal Context with all categories: about 5,100 images of VOC 2010, 459 classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zeroseg_jax.data.benchmarks import context
from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    LayoutError,
    build_benchmark,
    find_root,
    list_named,
    read_split,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, MaskError, build_table

ARCHIVE = "trainval.tar.gz"  # of the data set's page, beside VOC 2010
_MASKS = "trainval"
_CLASSES = 459
# The list that context.convert writes, and the one that others download.
_SPLITS = (context.SPLIT, "pascalcontext_val.txt")


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "context459" from the original MATLAB files, ids 1 to 459.

    Args:
      name: name of the benchmark.
      data_dir: folder of VOCdevkit, with trainval/NAME.mat in VOC2010.

    Raises:
      LayoutError: VOC 2010, the files or the list of the validation split are missing.
    """
    root = find_root(
        data_dir,
        ("JPEGImages", _MASKS),
        context.ROOTS,
        f"unpack {context.ARCHIVE} in {data_dir}, and {ARCHIVE} in its folder VOC2010.",
    )
    split = next((root / part for part in _SPLITS if (root / part).is_file()), None)
    if split is None:
        raise LayoutError(
            f"{root / _SPLITS[0]}: missing; run zeroseg verify --benchmark=context59 "
            f"--data_dir={data_dir} --convert, or put {_SPLITS[1]} into {root}."
        )
    return build_benchmark(
        name,
        listing=list_named(read_split(split), root / "JPEGImages", root / _MASKS, ending=".mat"),
        encoding=Encoding(
            build_table({i: i for i in range(_CLASSES + 1)}, reduce_zero=True), read_matlab
        ),
        official_images=(5105, 5104),
    )


def read_matlab(path: Path) -> np.ndarray:
    """Read the array LabelMap of a MATLAB file, int32 (H, W).

    Raises:
      MaskError: the file has no such array.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(path)["LabelMap"]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise MaskError(f"{path}: no LabelMap in it ({error}); unpack {ARCHIVE} again.") from error
    return np.asarray(values).astype(np.int32)
