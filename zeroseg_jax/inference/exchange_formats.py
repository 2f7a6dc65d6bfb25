"""Results in formats of other programs: LabelMe files, output of transformers' pipelines."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

_LABELME_VERSION = "5.5.0"  # the first with shapes of type mask is 5.3


def build_labelme(mask: np.ndarray, records: list[dict[str, Any]], source: str) -> dict[str, Any]:
    """Return the content of a LabelMe JSON file, with one shape of type "mask" for each class.

    Polygons of LabelMe have no holes, so that masks are the only exact shape.

    Args:
      mask: int (H, W), class ids.
      records: classes to write, from `Segmentation.classes`.
      source: path of the image, as the file names it.
    """
    height, width = mask.shape
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": [_build_shape(mask == record["index"], record["word"]) for record in records],
        "imagePath": source,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def build_pipeline(mask: np.ndarray, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a list as transformers' ImageSegmentationPipeline does.

    Args:
      mask: int (H, W), class ids.
      records: classes to return, from `Segmentation.classes`.

    Returns:
      [{"score": mean score of the class's pixels, "label": class name, "mask": Pillow image of
      mode L, 255 inside}].
    """
    return [
        {
            "score": record["score"],
            "label": record["word"],
            "mask": Image.fromarray(np.where(mask == record["index"], 255, 0).astype(np.uint8)),
        }
        for record in records
    ]


def _build_shape(inside: np.ndarray, label: str) -> dict[str, Any]:
    """Describe a region, bool (H, W) with a pixel: corners of its box, both inside, and a PNG."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], columns[0], columns[-1]))
    content = io.BytesIO()
    part = inside[top : bottom + 1, left : right + 1].astype(np.uint8)
    Image.fromarray(part).save(content, "PNG")
    return {
        "label": label,
        "points": [[left, top], [right, bottom]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(content.getvalue()).decode(),
    }
