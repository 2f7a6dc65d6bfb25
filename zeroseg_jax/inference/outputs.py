"""Files of a result: overlay, index mask, JSON, cut-outs with alpha, polygons (GeoJSON, COCO).

Every file carries a mark of this program. A file without it is somebody else's, for example
annotations that another tool keeps beside an image, and is never replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from zeroseg_jax.data import files

GENERATOR = "zeroseg_jax"
POLYGONS = {"geojson": ".geojson", "coco": "_coco.json"}  # format: end of the file name
_PNG_KEY, _JSON_KEY = "Software", "generator"
# 12 megapixels take 0.5 s in place of 2.0 s; the file is a third larger.
_COMPRESS_LEVEL = 1
_SOFT_PX = 1.0  # standard deviation of a cut-out's edge


def write_files(
    images: Mapping[Path, Image.Image],
    records: Mapping[Path, dict[str, Any]],
    inputs: Iterable[str | Path] = (),
) -> None:
    """Write PNG and JSON files with the mark of this program.

    Args:
      images: image of each PNG file.
      records: content of each JSON file.
      inputs: paths of input images, none of which is replaced.

    Raises:
      ValueError: see check_replaceable; nothing is written then.
    """
    existing = [path for path in (*images, *records) if path.exists()]
    known = identify_files(inputs) if existing else frozenset()
    for path in existing:
        check_replaceable(path, known)
    for path, image in images.items():
        files.write_png(path, image, {_PNG_KEY: GENERATOR}, compress_level=_COMPRESS_LEVEL)
    for path, content in records.items():
        files.write_json(path, {_JSON_KEY: GENERATOR, **content})


def identify_files(paths: Iterable[str | Path]) -> frozenset[tuple[int, int]]:
    """Return device and inode of each file that exists: the same for a hard link and a symlink."""
    found = set()
    for path in paths:
        with contextlib.suppress(OSError):  # a frame of a video has no file of its own
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def check_replaceable(path: Path, inputs: frozenset[tuple[int, int]] = frozenset()) -> None:
    """Refuse to replace an input image, or a file that this program did not write.

    Args:
      path: file to write.
      inputs: input images, from identify_files.

    Raises:
      ValueError: the file exists and has no mark of this program, or is an input.
    """
    if not path.exists():
        return
    if inputs and not inputs.isdisjoint(identify_files([path])):
        raise ValueError(f"{path}: is an input image; name another output folder.")
    if not _is_marked(path):
        raise ValueError(
            f"{path}: exists and was not written by {GENERATOR}; move it or name another output "
            "folder."
        )


def cut_out(image: np.ndarray, inside: np.ndarray) -> Image.Image:
    """Cut a region out of an image, with a soft edge.

    Args:
      image: uint8 (H, W, 3).
      inside: bool (H, W), at least one pixel.

    Returns:
      RGBA image of the region's bounding box.
    """
    (area,) = ndimage.find_objects(inside.astype(np.uint8))
    margin = int(np.ceil(2 * _SOFT_PX))
    near = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in area)
    return Image.fromarray(np.dstack([image[near], build_alpha(inside[near])]))


def build_alpha(inside: np.ndarray) -> np.ndarray:
    """Return the opacity of a region with a soft edge: bool (H, W) to uint8 (H, W)."""
    soft = ndimage.gaussian_filter(inside.astype(np.float32), _SOFT_PX, mode="nearest")
    return np.rint(255 * np.clip(2 * soft - 0.5, 0, 1)).astype(np.uint8)


def build_geojson(mask: np.ndarray, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a FeatureCollection with a MultiPolygon for each class, in pixels from the top left.

    Args:
      mask: int (H, W), class ids.
      records: classes to write, from `Segmentation.classes`.

    Raises:
      ValueError: contourpy is not installed.
    """
    features = [
        {
            "type": "Feature",
            "properties": {key: record[key] for key in ("word", "area", "area_px", "score")},
            "geometry": {
                "type": "MultiPolygon",
                "coordinates": trace_polygons(mask == record["index"]),
            },
        }
        for record in records
    ]
    return {"type": "FeatureCollection", "features": features}


def build_coco(mask: np.ndarray, records: list[dict[str, Any]], source: str) -> dict[str, Any]:
    """Return COCO annotations, one of each class: an uncompressed run-length code of its pixels.

    Args:
      mask: int (H, W), class ids.
      records: classes to write, from `Segmentation.classes`.
      source: file name of the image.
    """
    height, width = mask.shape
    annotations = []
    for number, record in enumerate(records, start=1):
        inside = mask == record["index"]
        (area,) = ndimage.find_objects(inside.astype(np.uint8))
        flat = inside.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat, prepend=False))
        annotations.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": record["index"],
                "area": record["area_px"],
                "bbox": [
                    area[1].start, area[0].start,
                    area[1].stop - area[1].start, area[0].stop - area[0].start,
                ],
                "score": record["score"],
                "iscrowd": 1,  # COCO's sign of a run-length code
                "segmentation": {
                    "size": [height, width],
                    "counts": np.diff(changes, prepend=0, append=flat.size).tolist(),
                },
            }
        )  # fmt: skip
    return {
        "images": [{"id": 1, "file_name": source, "height": height, "width": width}],
        "categories": [{"id": r["index"], "name": r["word"]} for r in records],
        "annotations": annotations,
    }


def trace_polygons(inside: np.ndarray) -> list[list[list[list[float]]]]:
    """Trace the borders of a region.

    Args:
      inside: bool (H, W).

    Returns:
      Coordinates of a GeoJSON MultiPolygon: polygons, each an outer ring and its holes, each ring
      closed, each point [x, y] in pixels; the image's upper left corner is [0, 0].

    Raises:
      ValueError: contourpy is not installed.
    """
    contourpy = _import_contourpy()
    padded = np.pad(inside.astype(np.float32), 1)
    contours = contourpy.contour_generator(z=padded, fill_type="OuterOffset")
    polygons = []
    for points, offsets in zip(*contours.filled(0.5, 2.0), strict=True):
        points = points - 0.5  # the padding, and pixel centres
        rings = [points[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        polygons.append([_drop_collinear(ring).tolist() for ring in rings])
    return polygons


def check_polygons(kind: str) -> None:
    """Check a format of polygons before there is a mask.

    Raises:
      ValueError: it is not one of POLYGONS, or contourpy is not installed for "geojson".
    """
    if kind not in POLYGONS:
        raise ValueError(f"polygons: {kind[:40]!r} is not one of {', '.join(POLYGONS)}.")
    if kind == "geojson":
        _import_contourpy()


def _import_contourpy() -> ModuleType:
    try:
        import contourpy
    except ImportError as error:
        raise ValueError(
            'polygons: GeoJSON needs the extra "polygons"; pip install "zeroseg_jax[polygons]".'
        ) from error
    return contourpy


def _drop_collinear(ring: np.ndarray) -> np.ndarray:
    """Drop the points of a closed ring (n, 2) on the line between their neighbours."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept = points[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]
    return np.concatenate([kept, kept[:1]])


def to_file_name(word: str) -> str:
    """Replace what is no letter, digit, "_" or "-" in a class name."""
    return re.sub(r"[^\w-]+", "-", word).strip("-") or "class"


def _is_marked(path: Path) -> bool:
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                return image.info.get(_PNG_KEY) == GENERATOR
        content = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):  # no such format: somebody else's
        return False
    return isinstance(content, dict) and content.get(_JSON_KEY) == GENERATOR
