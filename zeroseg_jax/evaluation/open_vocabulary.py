"""Open vocabulary: any picture against a thousand words, and the best words of each segment.

Source: ZeroSeg, Table 2 (ImageNet's 1,000 class names over pictures of Conceptual Captions).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zeroseg_jax.data import drawing
from zeroseg_jax.data.benchmarks.word_lists import IMAGENET, WORDS, read_words
from zeroseg_jax.inference import batches, canvas, labelling, windows
from zeroseg_jax.inference.labelling import LabelRule
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import ClassVectors, Scored
from zeroseg_jax.inference.segmenters import Segmenter, choose_scale

_SHIPPED = "imagenet"
_WNID = re.compile(r"n\d{8}")
_LEAST_SHARE = 0.01
_DRAWN_PX, _STROKE_PX = 1024, 2


def read_vocabulary(path: str) -> list[list[str]]:
    """Read a words file; "imagenet" is the shipped one of 1,000 classes.

    A first word such as n01440764 is an id, not a word. Words may stand under two classes, as
    "crane" does in ImageNet.

    Raises:
      ValueError: see benchmarks.vocabulary.read_words, or a line with an id alone.
    """
    source = WORDS / f"{IMAGENET}.txt" if path == _SHIPPED else Path(path)
    rows = [list(names) for names in read_words(source, distinct=False)]
    words = [names[1:] if _WNID.fullmatch(names[0]) else names for names in rows]
    for number, names in enumerate(words, 1):
        if not names:
            raise ValueError(f"{source}: line {number} has an id and no word.")
    return words


def name_segments(
    segmenter: Segmenter,
    image: np.ndarray,
    classes: ClassVectors,
    names: list[str],
    preset: Preset,
    top: int,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Find the best words of each segment of a picture.

    A segment is here what the picture shows: all pixels with the same best word.

    Args:
      segmenter: the model.
      image: uint8 (H, W, 3).
      classes: class vectors, from model.embed_class_names.
      names: one a class.
      preset: the protocol; where it names a background, label 0 is that.
      top: words a segment.

    Returns:
      int32 (H, W) segments, 0 .. n - 1 by falling area, -1 where a word covers less than 1 % of
      the picture; and of each segment its share of the picture and its words, the one it shows
      first, then those whose mean score over it is highest.
    """
    laid_out = batches.resize_and_lay_out(image, preset, segmenter)
    (scored,) = batches.score_images(segmenter, [laid_out], classes, preset)
    height, width = image.shape[:2]
    rule = labelling.build_rule(preset, classes, choose_scale(preset, segmenter.logit_scale))
    picture = canvas.merge(
        scored.layout, scored.stack(Scored), segmenter.patch_px, len(rule.class_ids)
    )
    guide = labelling.build_guide(image, preset)
    labels = labelling.label_image(picture, (height, width), rule, preset, guide).labels
    shown = ["background", *names] if preset.names_background else names
    # The scores of a region are the mean over its pixels at the resized size.
    small = _shrink(labels, *picture.size)
    regions, shares = np.unique(labels, return_counts=True)
    order = np.argsort(-shares, kind="stable")
    ids = np.full((height, width), -1, np.int32)
    found = []
    kept = [
        (int(region), count / labels.size)
        for region, count in zip(regions[order], shares[order], strict=True)
        if count / labels.size >= _LEAST_SHARE and (small == region).any()
    ]
    for region, share in kept:
        means = _mean_scores(picture, small == region, rule)
        ids[labels == region] = len(found)
        best = np.argsort(-means, kind="stable")
        best = [region, *(int(b) for b in best if b != region)][:top]
        words = [{"word": shown[b], "score": round(float(means[b]), 4)} for b in best]
        found.append({"share": round(float(share), 4), "words": words})
    return ids, found


def _shrink(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = windows.nearest_places(labels.shape[0], height)
    return labels[rows][:, windows.nearest_places(labels.shape[1], width)]


def _mean_scores(
    picture: canvas.SegmentCanvas | canvas.PatchCanvas, inside: np.ndarray, rule: LabelRule
) -> np.ndarray:
    """Return float (labels,): a region's mean score of each label, by its best word."""
    means = picture.mean_scores(inside)
    if rule.softmax_scale:
        means = np.exp(rule.softmax_scale * (means - means.max()))
        means /= means.sum()
    best = np.zeros(int(rule.class_ids.max()) + 1)
    np.maximum.at(best, rule.class_ids, means)
    return best


def draw_words(image: np.ndarray, ids: np.ndarray, found: list[dict[str, Any]]) -> Image.Image:
    """Paint the segments over a picture, write the first word on each, and list all below.

    A picture longer than 1024 px is drawn at that size: words stay readable, and pages small.
    """
    image, ids = _fit(image, ids)
    colours = drawing.palette([str(i) for i in range(max(len(found), 1))])
    painted = Image.fromarray(drawing.overlay(image, ids, colours))
    draw = ImageDraw.Draw(painted)
    font = ImageFont.load_default(size=max(12, min(image.shape[:2]) // 24))
    taken: list[tuple[int, int, int, int]] = []
    for number, region in enumerate(found):
        rows, columns = np.nonzero(ids == number)
        if not rows.size:  # too thin to be seen at the size drawn
            continue
        word = region["words"][0]["word"]
        box = font.getbbox(word, anchor="mm", stroke_width=_STROKE_PX)
        x, y = _place_word(rows, columns, box, painted.size, taken)
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


def _place_word(
    rows: np.ndarray,
    columns: np.ndarray,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Choose a pixel of a region for its word: near its centre, and clear of words that stand.

    Where every place touches another word, the place nearest the centre is taken after all.
    """
    left, top, right, bottom = box
    order = np.argsort((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2, kind="stable")
    # Words larger than the picture begin at its edge.
    x = np.maximum(np.minimum(columns[order], size[0] - right), -left).round().astype(int)
    y = np.maximum(np.minimum(rows[order], size[1] - bottom), -top).round().astype(int)
    free = np.ones(len(order), bool)
    for left_px, top_px, right_px, bottom_px in taken:
        beside = (x + right <= left_px) | (x + left >= right_px)
        free &= beside | (y + bottom <= top_px) | (y + top >= bottom_px)
    best = int(free.argmax()) if free.any() else 0
    return int(x[best]), int(y[best])
