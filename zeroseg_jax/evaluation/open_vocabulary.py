"""Open vocabulary: images against a thousand class names, the best names of each segment.

Source: ZeroSeg, Table 2 (ImageNet's 1,000 class names on images of Conceptual Captions).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zeroseg_jax.data import drawing
from zeroseg_jax.data.benchmarks.word_lists import IMAGENET, WORDS, read_words
from zeroseg_jax.data.files import write_json, write_png, write_text
from zeroseg_jax.data.folders import find_files
from zeroseg_jax.data.transforms import SUFFIXES, ImageError, read_image
from zeroseg_jax.evaluation.render import encode_data_url
from zeroseg_jax.evaluation.runner import score_image
from zeroseg_jax.evaluation.vote_page import render_vote_page
from zeroseg_jax.inference import batches, canvas, guide_image, labelling, windows
from zeroseg_jax.inference.label_rules import LabelRule
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Scored
from zeroseg_jax.inference.segmenters import Segmenter

_SHIPPED = "imagenet"
_WNID = re.compile(r"n\d{8}")
_LEAST_SHARE = 0.01
_DRAWN_PX, _STROKE_PX = 1024, 2
Box = tuple[float, float, float, float]


def read_vocabulary(path: str) -> list[list[str]]:
    """Read a vocabulary: one class a line, synonyms after semicolons.

    A leading WordNet id such as n01440764 is dropped. A name may occur in two classes, like "crane"
    in ImageNet.

    Args:
      path: text file, or "imagenet" for the shipped one of 1,000 classes.

    Raises:
      ValueError: the file is invalid (see word_lists.read_words), or a line has only an id.
    """
    source = WORDS / f"{IMAGENET}.txt" if path == _SHIPPED else Path(path)
    rows = [list(names) for names in read_words(source, distinct=False)]
    classes = [names[1:] if _WNID.fullmatch(names[0]) else names for names in rows]
    for number, names in enumerate(classes, 1):
        if not names:
            raise ValueError(f"{source}: line {number} has an id and no class name; add one.")
    return classes


def list_images(folder: Path, most: int = 0) -> list[Path]:
    """List the images below a folder, sorted.

    Args:
      folder: folder.
      most: maximum number of images; 0 for all.

    Raises:
      ValueError: the folder does not exist or has no image.
    """
    paths = find_files(folder, SUFFIXES).paths if folder.is_dir() else []
    if not paths:
        raise ValueError(f"{folder}: no images ({', '.join(SUFFIXES)}); give a folder of images.")
    return paths[: most or None]


def name_images(
    folder: Path,
    paths: list[Path],
    models: dict[str, tuple[Segmenter, ClassVectors]],
    names: list[str],
    preset: Preset,
    output: Path,
    *,
    top: int = 3,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> list[str]:
    """Name the segments of images; write drawings, words.json and, for two models, vote.html.

    Args:
      folder: folder of the images; drawings keep the paths below it.
      paths: images.
      models: one or two models by name, each with its class vectors.
      names: first name of each class.
      preset: protocol.
      output: directory to write to.
      top: number of class names of a segment.
      seed: random seed of the sides in vote.html.
      log: function that receives one line an image.

    Returns:
      Error messages of the unreadable images; the others are done.
    """
    record, pairs, errors = [], [], []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            image = read_image(path)
        except ImageError as error:
            errors.append(str(error))
            continue
        segments, drawings = [], []
        for side, (segmenter, classes) in zip("ab", models.values(), strict=False):
            ids, found = name_segments(segmenter, image, classes, names, preset, top)
            drawings.append(draw_names(image, ids, found))
            segments.append(found)
            write_png(output / side / f"{name}.png", drawings[-1])
        if len(models) == 2:
            first, second = map(encode_data_url, drawings)
            pairs.append((name, first, second))
        record.append({"image": name, "models": segments})
        log(f"{name}: " + ", ".join(region["words"][0]["word"] for region in segments[0]))
    content = {"models": list(models), "preset": preset.name, "words": len(names)}
    write_json(output / "words.json", {**content, "images": record})
    if len(models) == 2:
        first, second = models
        write_text(output / "vote.html", render_vote_page(pairs, (first, second), seed))
    return errors


def name_segments(
    segmenter: Segmenter,
    image: np.ndarray,
    classes: ClassVectors,
    names: list[str],
    preset: Preset,
    top: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Find the best class names of each segment of an image.

    A segment is here the set of all pixels with the same best class name.

    Args:
      segmenter: model.
      image: uint8 (H, W, 3).
      classes: class vectors, from class_vectors.embed_class_names.
      names: first name of each class.
      preset: protocol; if it has a background, label 0 is background.
      top: number of class names of a segment.

    Returns:
      int32 (H, W) segment ids, 0 .. n - 1 by falling area, -1 for segments under 1 % of the image.
      For each segment a dict: `share` of the image, and `words`, the class name of its pixels and
      then those with the highest mean score, each with its `score`.
    """
    scored = score_image(segmenter, image, classes, preset)
    stacked = scored.stack(Scored)
    merged, rule = batches.merge_windows(segmenter, scored.layout, stacked, classes, preset)
    guide = guide_image.build_guide(image, preset, scored.resized)
    labels = labelling.label_image(merged, image.shape[:2], rule, preset, guide).labels
    shown = ["background", *names] if preset.names_background else names
    # A segment's score is the mean over its pixels at the resized size.
    small = _shrink(labels, *merged.size)
    regions, shares = np.unique(labels, return_counts=True)
    order = np.argsort(-shares, kind="stable")
    ids = np.full(labels.shape, -1, np.int32)
    found: list[dict[str, Any]] = []
    kept = [
        (int(region), count / labels.size)
        for region, count in zip(regions[order], shares[order], strict=True)
        if count / labels.size >= _LEAST_SHARE and (small == region).any()
    ]
    for region, share in kept:
        means = _mean_scores(merged, small == region, rule)
        ids[labels == region] = len(found)
        ranked = np.argsort(-means, kind="stable")
        best = [region, *(int(b) for b in ranked if b != region)][:top]
        words = [{"word": shown[b], "score": round(float(means[b]), 4)} for b in best]
        found.append({"share": round(float(share), 4), "words": words})
    return ids, found


def _shrink(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = windows.nearest_places(labels.shape[0], height)
    return labels[rows][:, windows.nearest_places(labels.shape[1], width)]


def _mean_scores(
    merged: canvas.SegmentCanvas | canvas.PatchCanvas, inside: np.ndarray, rule: LabelRule
) -> np.ndarray:
    """Return float (labels,): the mean score of each label over a region, by its best name."""
    means = merged.mean_scores(inside)
    if rule.softmax_scale:
        means = np.exp(rule.softmax_scale * (means - means.max()))
        means /= means.sum()
    best = np.zeros(int(rule.class_ids.max()) + 1)
    np.maximum.at(best, rule.class_ids, means)
    return best


def draw_names(image: np.ndarray, ids: np.ndarray, found: list[dict[str, Any]]) -> Image.Image:
    """Draw the segments over an image, with the first class name on each and a legend of all.

    Images over 1024 px are drawn at 1024 px, to keep text readable and pages small.

    Args:
      image: uint8 (H, W, 3).
      ids: int (H, W) segment ids, from name_segments.
      found: segments, from name_segments.
    """
    image, ids = _fit(image, ids)
    colours = drawing.palette([str(i) for i in range(max(len(found), 1))])
    painted = Image.fromarray(drawing.overlay(image, ids, colours))
    draw = ImageDraw.Draw(painted)
    font = ImageFont.load_default(size=max(12, min(image.shape[:2]) // 24))
    taken: list[Box] = []
    for number, region in enumerate(found):
        rows, columns = np.nonzero(ids == number)
        if not rows.size:  # too thin for the size drawn
            continue
        word = region["words"][0]["word"]
        box = font.getbbox(word, anchor="mm", stroke_width=_STROKE_PX)
        x, y = _place_text(rows, columns, box, painted.size, taken)
        taken.append((x + box[0], y + box[1], x + box[2], y + box[3]))
        draw.text(
            (x, y), word, font=font, anchor="mm", fill=(255, 255, 255),
            stroke_width=_STROKE_PX, stroke_fill=(0, 0, 0),
        )  # fmt: skip
    entries = [
        (
            ", ".join(word["word"] for word in region["words"]),
            tuple(int(v) for v in colours[number]),
        )
        for number, region in enumerate(found)
    ]
    return drawing.add_legend(np.asarray(painted), entries)


def _fit(image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shrink = max(*ids.shape, _DRAWN_PX) / _DRAWN_PX
    height, width = (max(1, round(side / shrink)) for side in ids.shape)
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(small), _shrink(ids, height, width)


def _place_text(
    rows: np.ndarray,
    columns: np.ndarray,
    box: Box,
    size: tuple[int, int],
    taken: list[Box],
) -> tuple[int, int]:
    """Choose the position of a text: the pixel of its segment nearest the centre without overlap.

    If every position overlaps an earlier text, the one nearest the centre is used.

    Args:
      rows: int (n,), rows of the segment's pixels.
      columns: int (n,), columns of the segment's pixels.
      box: bounding box of the text around its anchor, px: left, top, right, bottom.
      size: width and height of the image, px.
      taken: bounding boxes of the earlier texts, px.

    Returns:
      Column and row of the anchor.
    """
    left, top, right, bottom = box
    order = np.argsort((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2, kind="stable")
    # Text larger than the image starts at its edge.
    x = np.maximum(np.minimum(columns[order], size[0] - right), -left).round().astype(int)
    y = np.maximum(np.minimum(rows[order], size[1] - bottom), -top).round().astype(int)
    free = np.ones(len(order), bool)
    for left_px, top_px, right_px, bottom_px in taken:
        beside = (x + right <= left_px) | (x + left >= right_px)
        free &= beside | (y + bottom <= top_px) | (y + top >= bottom_px)
    best = int(free.argmax()) if free.any() else 0
    return int(x[best]), int(y[best])
