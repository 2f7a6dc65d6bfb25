"""Pascal Context: about 5,100 images of VOC 2010, 59 classes, with or without a background."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from zeroseg_jax.data import files
from zeroseg_jax.data.benchmarks import rle
from zeroseg_jax.data.benchmarks.listing import (
    FileBenchmark,
    LayoutError,
    build_benchmark,
    find_root,
    list_named,
    read_split,
)
from zeroseg_jax.data.benchmarks.masks import Encoding, build_table
from zeroseg_jax.data.progress import ProgressLog

ARCHIVE = "VOCtrainval_03-May-2010.tar"
ANNOTATIONS = "trainval_merged.json"
SPLIT = "ImageSets/SegmentationContext/val.txt"
_MASKS = "SegmentationClassContext"
ROOTS = ("VOCdevkit/VOC2010", "VOC2010", "")
# Evaluated category ids of the annotations in the order of train ids; 0 is unlabelled.
_CATEGORIES = (
    0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105,
    113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
_IDS = {category: number for number, category in enumerate(_CATEGORIES)}
_IGNORED = 255
_PHASES = ("train", "val")


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "context60" or "context59" from the masks that `convert` writes.

    Args:
      name: name of the benchmark.
      data_dir: folder of VOCdevkit.

    Raises:
      LayoutError: VOC 2010 or the masks are missing.
    """
    root = find_root(
        data_dir,
        ("JPEGImages", SPLIT, _MASKS),
        ROOTS,
        f"unpack {ARCHIVE} in {data_dir}, put {ANNOTATIONS} there too, and run zeroseg "
        f"verify --benchmark={name} --data_dir={data_dir} --convert.",
    )
    has_background = name == "context60"
    table = build_table(
        {i: i for i in range(len(_CATEGORIES))}, (_IGNORED,), reduce_zero=not has_background
    )
    return build_benchmark(
        name,
        has_background=has_background,
        listing=list_named(read_split(root / SPLIT), root / "JPEGImages", root / _MASKS),
        encoding=Encoding(table, hint="The masks may be written for 59 classes; convert again."),
        # Both are in use: papers print 5,105, the usual list has 5,104 names.
        official_images=(5105, 5104),
    )


def convert(data_dir: Path, log: Callable[[str], None] = print) -> int:
    """Write the annotations of both splits as index PNGs, and their lists.

    CLIP-ZSS trains with those of the training split. Each file is written atomically, the lists
    last. An interrupted conversion is resumed.

    Args:
      data_dir: folder of VOCdevkit and the annotations.
      log: receiver of progress lines.

    Returns:
      Number of masks that were written.

    Raises:
      LayoutError: the images or the annotations are missing.
      ValueError: the annotations are not in the published format.
    """
    source = f"unpack {ARCHIVE} in {data_dir}."
    root = find_root(data_dir, ("JPEGImages",), ROOTS, source)
    path = next((d / ANNOTATIONS for d in (root, data_dir) if (d / ANNOTATIONS).is_file()), None)
    if path is None:
        raise LayoutError(f"{root / ANNOTATIONS}: missing; put the file of annotations there.")
    images, annotations = _read_annotations(path, log)
    written = unlisted = 0
    progress = ProgressLog("convert", len(images), "masks", log)
    for image in images:
        target = root / _MASKS / f"{Path(image['file_name']).stem}.png"
        if not target.exists():
            ids, strange = draw(image, annotations[image["image_id"]], path)
            files.write_png(target, ids)
            written, unlisted = written + 1, unlisted + strange
        progress.add()
    for phase in _PHASES:
        names = sorted(Path(i["file_name"]).stem for i in images if i["phase"] == phase)
        if names:
            list_path = (root / SPLIT).with_name(f"{phase}.txt")
            files.write_text(list_path, "\n".join(names) + "\n")
    found = len(images) - written
    log(f"convert: {written} masks written, {found} already there, in {root / _MASKS}")
    if unlisted:
        log(f"convert: {unlisted} regions of other categories are ignored")
    return written


def draw(
    image: dict[str, Any], annotations: list[dict[str, Any]], path: Path
) -> tuple[np.ndarray, int]:
    """Draw the regions of one image over each other, in the order of the file.

    Args:
      image: entry with image_id, height and width.
      annotations: entries with category_id and a run-length encoded segmentation.
      path: file of the annotations, for error messages.

    Returns:
      uint8 (H, W) of ids, 0 for unlabelled pixels, and the number of regions of other
      categories, which are drawn as ignored.

    Raises:
      ValueError: a region does not fit the image.
    """
    size = (image["height"], image["width"])
    ids, unlisted = np.zeros(size, np.uint8), 0
    for region in annotations:
        try:
            segmentation = region["segmentation"]
            if tuple(segmentation.get("size", size)) != size:
                raise ValueError(f"its size is {segmentation['size']}, the image's {size}")
            inside = rle.decode(segmentation["counts"], *size)
            number = _IDS.get(region["category_id"], _IGNORED)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: a region of image {image['image_id']} cannot be drawn ({error!r}); "
                "download the file again."
            ) from error
        unlisted += number == _IGNORED
        ids[inside] = number
    return ids, unlisted


def _read_annotations(
    path: Path, log: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[Any, list[dict[str, Any]]]]:
    log(f"convert: reading {path}, {path.stat().st_size / 1e6:.0f} MB")
    try:
        content = files.read_json(path, remedy="download the file again")
        images = [image for image in content["images"] if image["phase"] in _PHASES]
        wanted = {image["image_id"] for image in images}
        annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for region in content["annos_segmentation"]:
            if region["image_id"] in wanted:
                annotations[region["image_id"]].append(region)
        for image in images:
            if not Path(image["file_name"]).stem or min(image["height"], image["width"]) < 1:
                raise ValueError(
                    f"{path}: image {image['image_id']} has no name or no size; download the "
                    "file again."
                )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not in the published format ({error!r}); download the file again."
        ) from error
    if not any(image["phase"] == "val" for image in images):
        raise ValueError(f"{path}: no image of phase 'val'; download the file again.")
    return images, annotations
