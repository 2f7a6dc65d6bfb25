"""Result of segmenting one image: mask, scores, segments; drawing and saving it."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing
from zeroseg_jax.inference import exchange_formats, outputs
from zeroseg_jax.inference.background import BACKGROUND

NOTHING_FOUND = "none of your words is in this image"
_NOTEBOOK_PX = 1024  # long side in a notebook
_WHITE = (255, 255, 255)
_LEAST_AREA = 0.002  # of the image; a class with less was not found


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Segmentation:
    """Labels of one image.

    Attributes:
      image: uint8 (H, W, 3).
      mask: uint8 or uint16 (H, W), index into `class_names`.
      scores: float32 (H, W) in [0, 1], probability of the pixel's class among the classes given;
        one class alone scores 1 everywhere.
      segments: uint16 (H, W), ids of the segments that were found without class names; the mask's
        classes in dense models, which have no segments.
      class_names: first name of each class; "background" comes first if there is one.
      checkpoint: name of the model.
      source: file name, or "".
      model: facts of the model, see Predictor.facts; empty where unknown.
    """

    image: np.ndarray
    mask: np.ndarray
    scores: np.ndarray
    segments: np.ndarray
    class_names: tuple[str, ...]
    checkpoint: str
    source: str = ""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        height, width = self.mask.shape
        if not self.found:
            return f"Segmentation of {width} x {height} px: {NOTHING_FOUND}"
        shown = [c for c in self.classes if c["area_px"]]
        names = ", ".join(f"{c['word']} {100 * c['area']:.0f} % ({c['score']:.2f})" for c in shown)
        return f"Segmentation of {width} x {height} px: {names}"

    def _repr_png_(self) -> bytes:
        """Return the overlay as PNG, for notebooks; large images are shrunk."""
        drawn = self.overlay()
        drawn.thumbnail((_NOTEBOOK_PX, _NOTEBOOK_PX))
        content = io.BytesIO()
        drawn.save(content, "PNG")
        return content.getvalue()

    @functools.cached_property
    def colours(self) -> np.ndarray:
        """uint8 (C, 3), a colour for each class."""
        return drawing.palette(self.class_names)

    @functools.cached_property
    def classes(self) -> list[dict[str, Any]]:
        """One record a class, largest area first: word, index, colour, area_px, area, score."""
        count = len(self.class_names)
        pixels = np.bincount(self.mask.ravel(), minlength=count)
        sums = np.bincount(self.mask.ravel(), self.scores.ravel(), minlength=count)
        records = [
            {
                "word": word,
                "index": i,
                "colour": "#{:02x}{:02x}{:02x}".format(*self.colours[i]),
                "area_px": int(pixels[i]),
                "area": round(float(pixels[i] / self.mask.size), 6),
                "score": round(float(sums[i] / pixels[i]), 4) if pixels[i] else None,
            }
            for i, word in enumerate(self.class_names)
        ]
        return sorted(records, key=lambda record: -record["area_px"])

    @property
    def found(self) -> bool:
        """True if a class other than background has at least 0.2 % of the image."""
        return any(c["area_px"] >= _LEAST_AREA * self.mask.size for c in self.found_classes)

    @property
    def found_classes(self) -> list[dict[str, Any]]:
        """Records of `classes` with a pixel, without the background."""
        return [c for c in self.classes if c["area_px"] and (c["word"] != BACKGROUND or c["index"])]

    @property
    def note(self) -> str:
        """Warning about what the model knows, or ""."""
        return str(self.model.get("note", ""))

    @property
    def areas(self) -> dict[str, float]:
        """Fraction of the image for each class name, largest first; they sum to 1."""
        return {record["word"]: record["area"] for record in self.classes}

    def with_background(self, threshold: float) -> Segmentation:
        """Assign pixels with scores under a threshold to "background".

        Args:
          threshold: in [0, 1]; 0 changes nothing.

        Returns:
          A new Segmentation; `self` is unchanged, so that thresholds can be tried.

        Raises:
          ValueError: the threshold is out of range.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"background: {threshold} is outside [0, 1].")
        if not threshold:
            return self
        names, mask = self.class_names, self.mask
        if names[0] != BACKGROUND:
            names = (BACKGROUND, *names)
            mask = mask.astype(index_dtype(len(names))) + 1
        mask = np.where(self.scores < threshold, 0, mask).astype(index_dtype(len(names)))
        return dataclasses.replace(self, class_names=names, mask=mask)

    def overlay(self, opacity: float = 0.45, *, legend: bool = True) -> Image.Image:
        """Draw the classes' colours over the image; the legend lists fractions of the image.

        The background has the image's own colours, and white in the legend.
        """
        background = 0 if self.class_names[0] == BACKGROUND else None
        painted = drawing.soft_overlay(
            self.image, self.mask, self.colours, opacity, unpainted=background
        )
        if not legend:
            return Image.fromarray(painted)
        entries = [
            (
                f"{c['word']} {100 * c['area']:.0f} %",
                _WHITE if c["index"] == background else self.colours[c["index"]],
            )
            for c in self.classes
            if c["area_px"]
        ]
        return drawing.add_legend(painted, entries, drawing.find_scale(self.mask.shape))

    def to_pil(self) -> Image.Image:
        """Return the overlay with its legend, as a Pillow image; see overlay and mask_image."""
        return self.overlay()

    def mask_image(self) -> Image.Image:
        """Return the mask as an indexed image: pixels are class ids, with a palette of colours."""
        mask = Image.fromarray(self.mask)
        if len(self.class_names) <= 256:
            mask = mask.convert("P")
            mask.putpalette(self.colours.ravel().tolist())
        return mask

    def to_record(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        height, width = self.mask.shape
        return {
            "image": self.source,
            "height": height,
            "width": width,
            "checkpoint": self.checkpoint,
            "model": self.model,
            "note": self.note,
            "found": self.found,
            "classes": sorted(self.classes, key=lambda record: record["index"]),
        }

    def to_polygons(self, kind: str) -> dict[str, Any]:
        """Return the classes that were found as polygons or run-length codes.

        Args:
          kind: "geojson" or "coco", see outputs.build_geojson and outputs.build_coco.

        Raises:
          ValueError: another kind, or the extra "polygons" is not installed.
        """
        outputs.check_polygons(kind)
        if kind == "geojson":
            return outputs.build_geojson(self.mask, self.found_classes)
        return outputs.build_coco(self.mask, self.found_classes, self.source)

    def to_coco(self) -> dict[str, Any]:
        """Return COCO annotations, see outputs.build_coco."""
        return self.to_polygons("coco")

    def to_labelme(self) -> dict[str, Any]:
        """Return the content of a LabelMe file, see exchange_formats.build_labelme."""
        return exchange_formats.build_labelme(self.mask, self.found_classes, self.source)

    def to_pipeline(self) -> list[dict[str, Any]]:
        """Return what the image-segmentation pipeline of transformers returns.

        Returns:
          [{"score": float, "label": str, "mask": Pillow image of mode L, 0 or 255}], largest first.
        """
        return exchange_formats.build_pipeline(self.mask, self.found_classes)

    def save(
        self,
        directory: str | Path,
        stem: str = "segmentation",
        *,
        cutout: bool = False,
        polygons: str = "",
        inputs: Iterable[str | Path] = (),
    ) -> dict[str, Path]:
        """Write STEM_overlay.png, STEM_mask.png and STEM.json.

        Args:
          directory: created if missing.
          stem: start of the file names.
          cutout: True also writes STEM_cutout_WORD.png for each class that was found: its part of
            the image, with alpha and a soft edge.
          polygons: "geojson" for STEM.geojson too, "coco" for STEM_coco.json, or "".
          inputs: paths of further input images; neither they nor this one's are replaced.

        Returns:
          Path of each file.

        Raises:
          ValueError: a file of that name is an input image or was not written by this program, or
            the extra "polygons" is not installed. Nothing is written then.
        """
        root = Path(directory)
        paths = {"overlay": root / f"{stem}_overlay.png", "mask": root / f"{stem}_mask.png"}
        images = {paths["overlay"]: self.overlay(), paths["mask"]: self.mask_image()}
        for record in self.found_classes if cutout else ():
            path = root / f"{stem}_cutout_{outputs.to_file_name(record['word'])}.png"
            if path in images:
                path = path.with_stem(f"{path.stem}-{record['index']}")
            paths[f"cutout {record['word']}"] = path
            images[path] = outputs.cut_out(self.image, self.mask == record["index"])
        paths["json"] = root / f"{stem}.json"
        records = {paths["json"]: self.to_record()}
        if polygons:
            content = self.to_polygons(polygons)
            paths[polygons] = root / f"{stem}{outputs.POLYGONS[polygons]}"
            records[paths[polygons]] = content
        sources = [self.source] if self.source else []
        outputs.write_files(images, records, [*sources, *inputs])
        return paths


def index_dtype(classes: int) -> type:
    """Return the smallest dtype of a mask with this number of classes."""
    return np.uint8 if classes <= 256 else np.uint16


def number_segments(segment_ids: np.ndarray) -> np.ndarray:
    """Number segments without gaps: int (H, W), not negative, to uint16 in the same order."""
    occurs = np.bincount(segment_ids.ravel()) > 0
    return (np.cumsum(occurs) - 1).astype(np.uint16)[segment_ids]
