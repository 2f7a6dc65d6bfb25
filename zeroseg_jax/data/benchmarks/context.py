"""Pascal Context: about 5,100 pictures of VOC 2010, 59 classes, with a background or without."""

from __future__ import annotations

import io
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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

ARCHIVE = "VOCtrainval_03-May-2010.tar"
ANNOTATIONS = "trainval_merged.json"
_SPLIT = "ImageSets/SegmentationContext/val.txt"
_MASKS = "SegmentationClassContext"
_ROOTS = ("VOCdevkit/VOC2010", "VOC2010", "")
# The category ids of the annotations that are evaluated, in the order of train ids; 0 is
# whatever has no label.
_CATEGORIES = (
    0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105,
    113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
_IDS = {category: number for number, category in enumerate(_CATEGORIES)}
_IGNORED = 255
_LOG_SECONDS = 5.0


def build(name: str, data_dir: Path) -> FileBenchmark:
    """Build "context60" or "context59" from the masks that `convert` writes.

    Raises:
      LayoutError: VOC 2010 or the masks are not there.
    """
    root = find_root(
        data_dir,
        ("JPEGImages", _SPLIT, _MASKS),
        _ROOTS,
        f"unpack {ARCHIVE} in {data_dir}, put {ANNOTATIONS} there too, and run python -m "
        f"zeroseg verify --benchmark={name} --data_dir={data_dir} --convert.",
    )
    has_background = name == "context60"
    table = build_table(
        {i: i for i in range(len(_CATEGORIES))}, (_IGNORED,), reduce_zero=not has_background
    )
    return build_benchmark(
        name,
        has_background=has_background,
        listing=list_named(read_split(root / _SPLIT), root / "JPEGImages", root / _MASKS),
        encoding=Encoding(table, hint="Were these masks written for 59 classes? Convert again."),
        # Both counts are in use: papers print 5,105, the usual list has 5,104 names.
        official_images=(5105, 5104),
    )


def convert(data_dir: Path, log: Callable[[str], None] = print) -> int:
    """Write the annotations of the validation split as index PNGs, and the list of them.

    Each file appears whole, and the list last; a conversion that was interrupted goes on with
    the masks that are not there yet.

    Args:
      data_dir: where VOC 2010 and trainval_merged.json lie.
      log: takes progress lines.

    Returns:
      How many masks were written.

    Raises:
      LayoutError: the pictures or the annotations are not there.
      ValueError: annotations that are not in the published form.
    """
    source = f"unpack {ARCHIVE} in {data_dir}."
    root = find_root(data_dir, ("JPEGImages",), _ROOTS, source)
    path = next((d / ANNOTATIONS for d in (root, data_dir) if (d / ANNOTATIONS).is_file()), None)
    if path is None:
        raise LayoutError(f"{root / ANNOTATIONS}: not there; put the file of annotations there.")
    images, annotations = _read_annotations(path, log)
    (root / _MASKS).mkdir(exist_ok=True)
    written = unlisted = 0
    last = time.time()
    for number, image in enumerate(images, 1):
        target = root / _MASKS / f"{Path(image['file_name']).stem}.png"
        if not target.exists():
            ids, strange = draw(image, annotations[image["image_id"]], path)
            _write_mask(ids, target)
            written, unlisted = written + 1, unlisted + strange
        if time.time() - last > _LOG_SECONDS:
            last = time.time()
            log(f"convert: {number}/{len(images)} masks")
    names = sorted(Path(image["file_name"]).stem for image in images)
    _replace(root / _SPLIT, ("\n".join(names) + "\n").encode())
    log(f"convert: {written} masks written, {len(images) - written} were there, in {root / _MASKS}")
    if unlisted:
        log(f"convert: {unlisted} regions are of none of the 59 categories; they are ignored")
    return written


def draw(
    image: dict[str, Any], annotations: list[dict[str, Any]], path: Path
) -> tuple[np.ndarray, int]:
    """Draw the regions of one picture over each other in the order of the file.

    Args:
      image: with image_id, height and width.
      annotations: with category_id and a segmentation in runs.
      path: of the annotations, for messages.

    Returns:
      uint8 (H, W) of ids, 0 where nothing is drawn, and how many regions are of a category
      that is not evaluated and were drawn as ignored.

    Raises:
      ValueError: a region that does not fit the picture.
    """
    size = (image["height"], image["width"])
    ids, unlisted = np.zeros(size, np.uint8), 0
    for region in annotations:
        try:
            segmentation = region["segmentation"]
            if tuple(segmentation.get("size", size)) != size:
                raise ValueError(f"its size is {segmentation['size']}, the picture's {size}")
            inside = rle.decode(segmentation["counts"], *size)
            number = _IDS.get(region["category_id"], _IGNORED)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: a region of picture {image['image_id']} cannot be drawn ({error!r}); "
                "get the file again."
            ) from error
        unlisted += number == _IGNORED
        ids[inside] = number
    return ids, unlisted


def _read_annotations(path: Path, log: Callable[[str], None]):
    log(f"convert: reading {path}, {path.stat().st_size / 1e6:.0f} MB")
    try:
        content = json.loads(path.read_bytes())
        images = [image for image in content["images"] if image["phase"] == "val"]
        wanted = {image["image_id"] for image in images}
        annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for region in content["annos_segmentation"]:
            if region["image_id"] in wanted:
                annotations[region["image_id"]].append(region)
        for image in images:
            if not Path(image["file_name"]).stem or min(image["height"], image["width"]) < 1:
                raise ValueError(f"picture {image['image_id']} has no name or no size")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not in the published form ({error!r}); get the file again."
        ) from error
    if not images:
        raise ValueError(f"{path}: holds no picture of phase 'val'; get the file again.")
    return images, annotations


def _write_mask(ids: np.ndarray, target: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, format="PNG")
    _replace(target, buffer.getvalue())


def _replace(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    os.replace(part, target)
