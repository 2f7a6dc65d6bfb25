"""What a segmented picture is: who owns each pixel, how surely, and how it looks."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing, files

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Segmentation:
    """One picture, cut and named.

    Attributes:
      image: uint8 (H, W, 3).
      mask: uint8 or uint16 (H, W), index into `words`.
      scores: float32 (H, W) in [0, 1], of the word that owns the pixel: its share among the
        words that were asked for, so one word alone scores 1 everywhere.
      segments: uint16 (H, W), ids of the regions that were cut before any was named.
      words: the first name of each class; "background" comes first where there is one.
      checkpoint: of the model.
      source: the file, or "".
    """

    image: np.ndarray
    mask: np.ndarray
    scores: np.ndarray
    segments: np.ndarray
    words: tuple[str, ...]
    checkpoint: str
    source: str = ""

    def __repr__(self) -> str:
        height, width = self.mask.shape
        shown = [c for c in self.classes if c["area_px"]]
        names = ", ".join(f"{c['word']} {100 * c['area']:.0f} % ({c['score']:.2f})" for c in shown)
        return f"Segmentation of {width} x {height} px: {names}"

    @functools.cached_property
    def colours(self) -> np.ndarray:
        """uint8 (C, 3), a colour for each word."""
        return drawing.palette(self.words)

    @functools.cached_property
    def classes(self) -> list[dict[str, Any]]:
        """One record a word, largest area first: word, index, colour, area_px, area, score."""
        count = len(self.words)
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
            for i, word in enumerate(self.words)
        ]
        return sorted(records, key=lambda record: -record["area_px"])

    @property
    def areas(self) -> dict[str, float]:
        """Share of the picture for each word, largest first; they sum to 1."""
        return {record["word"]: record["area"] for record in self.classes}

    def with_background(self, threshold: float) -> Segmentation:
        """Give pixels that score under a threshold to "background".

        Args:
          threshold: in [0, 1]; 0 changes nothing.

        Returns:
          Another Segmentation; `self` stays, so that thresholds can be tried.

        Raises:
          ValueError: a threshold out of range.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"background: {threshold} is outside [0, 1].")
        if not threshold:
            return self
        words, mask = self.words, self.mask
        if words[0] != BACKGROUND:
            words = (BACKGROUND, *words)
            mask = mask.astype(index_dtype(len(words))) + 1
        mask = np.where(self.scores < threshold, 0, mask).astype(index_dtype(len(words)))
        return dataclasses.replace(self, words=words, mask=mask)

    def overlay(self, opacity: float = 0.55, *, legend: bool = True) -> Image.Image:
        """Draw the words' colours over the picture; the legend lists shares."""
        painted = drawing.overlay(self.image, self.mask, self.colours, opacity)
        if not legend:
            return Image.fromarray(painted)
        entries = [
            (
                f"{c['word']} {100 * c['area']:.0f} %",
                tuple(int(v) for v in self.colours[c["index"]]),
            )
            for c in self.classes
            if c["area_px"]
        ]
        return drawing.add_legend(painted, entries)

    def mask_image(self) -> Image.Image:
        """Return the mask as an index picture: pixels are ids, the palette their colours."""
        mask = Image.fromarray(self.mask)
        if len(self.words) <= 256:
            mask = mask.convert("P")
            mask.putpalette(self.colours.ravel().tolist())
        return mask

    def to_record(self) -> dict[str, Any]:
        """Return what the JSON file holds."""
        height, width = self.mask.shape
        return {
            "image": self.source,
            "height": height,
            "width": width,
            "checkpoint": self.checkpoint,
            "classes": sorted(self.classes, key=lambda record: record["index"]),
        }

    def save(self, directory: str | Path, stem: str = "segmentation") -> dict[str, Path]:
        """Write STEM_overlay.png, STEM_mask.png and STEM.json; return where they are."""
        root = Path(directory)
        paths = {
            "overlay": root / f"{stem}_overlay.png",
            "mask": root / f"{stem}_mask.png",
            "json": root / f"{stem}.json",
        }
        files.write_png(paths["overlay"], self.overlay())
        files.write_png(paths["mask"], self.mask_image())
        files.write_json(paths["json"], self.to_record())
        return paths


def index_dtype(classes: int) -> type:
    """Return the smallest dtype of a mask over so many classes."""
    return np.uint8 if classes <= 256 else np.uint16
