"""Colours of classes, overlays, legends and panels of label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PANEL_PX, _MARGIN_PX, _TITLE_PX, _LEGEND_PX = 224, 12, 26, 24
_PAPER, _INK, _IGNORED = (255, 255, 255), (30, 30, 30), 127
# Okabe and Ito's eight colours, distinguishable with most kinds of colour blindness. Further
# classes get lighter and darker versions.
_BASE = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_BROWN = (139, 90, 43)  # black has no darker version


def palette(names: Sequence[str]) -> np.ndarray:
    """Choose a colour for each class name.

    Args:
      names: C class names, at least one; black is for "background" as the first, and no other.

    Returns:
      uint8 (C, 3), the same colours for the same number of classes; the first 50 are distinct.
    """
    first = 0 if names[0] == "background" else 1
    colours = []
    for i in range(first, first + len(names)):
        version, colour = divmod(i, len(_BASE))
        base = np.array(_BASE[colour], np.float32)
        if version:
            if not base.any() and version % 2 == 0:
                base = np.array(_BROWN, np.float32)
            towards = 255.0 if version % 2 else 0.0
            base = base + (towards - base) * min(0.45 + 0.15 * (version // 2), 0.8)
        colours.append(base)
    return np.rint(np.stack(colours)).astype(np.uint8)


def colour_labels(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Paint a label map.

    Args:
      labels: int (H, W), class ids; an id below 0 or from C up is ignored and painted grey.
      colours: uint8 (C, 3).

    Returns:
      uint8 (H, W, 3).
    """
    count = len(colours)
    table = np.concatenate([colours, np.full((1, 3), _IGNORED, np.uint8)])
    return table[np.where((labels < 0) | (labels >= count), count, labels)]


def overlay(
    image: np.ndarray, labels: np.ndarray, colours: np.ndarray, opacity: float = 0.55
) -> np.ndarray:
    """Blend class colours with an image and darken the borders between classes.

    Args:
      image: uint8 (H, W, 3).
      labels: int (H, W); see colour_labels.
      colours: uint8 (C, 3).
      opacity: share of the class colours, in [0, 1].

    Returns:
      uint8 (H, W, 3).
    """
    painted = colour_labels(labels, colours).astype(np.float32)
    mixed = image * (1 - opacity) + painted * opacity
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    mixed[edge] = mixed[edge] * 0.25
    return np.rint(mixed).astype(np.uint8)


def add_legend(
    image: np.ndarray, entries: Sequence[tuple[str, Sequence[int] | np.ndarray]]
) -> Image.Image:
    """Add rows of named colour swatches below an image.

    Args:
      image: uint8 (H, W, 3), placed at the top left.
      entries: name and RGB colour of each swatch, levels in [0, 255].
    """
    font = _font(15)
    widths = [22 + int(font.getlength(name)) + 16 for name, _ in entries]
    width = max(image.shape[1], 240, *(_MARGIN_PX + wide for wide in widths))
    places, x, row = [], _MARGIN_PX, 0
    for (name, colour), wide in zip(entries, widths, strict=True):
        if x + wide > width and x > _MARGIN_PX:
            x, row = _MARGIN_PX, row + 1
        places.append((x, row, name, colour))
        x += wide
    height = image.shape[0] + (row + 1) * _LEGEND_PX + 8
    canvas = Image.new("RGB", (width, height), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for x, row, name, colour in places:
        y = image.shape[0] + 6 + row * _LEGEND_PX
        draw.rectangle((x, y + 1, x + 15, y + 16), fill=tuple(map(int, colour)), outline=_INK)
        draw.text((x + 21, y), name, fill=_INK, font=font)
    return canvas


def draw_panel(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    segments: np.ndarray,
    names: Sequence[str],
) -> Image.Image:
    """Draw image, truth, prediction and segments side by side, with a legend of the classes.

    Args:
      image: uint8 (H, W, 3).
      truth, prediction: int (H, W), class ids; see colour_labels.
      segments: int (H, W), segment ids, any values.
      names: class names.
    """
    _, ids = np.unique(segments, return_inverse=True)
    ids = ids.reshape(segments.shape)
    segment_names = [str(i + 1) for i in range(int(ids.max()) + 1)]
    colours = palette(names)
    parts = [
        ("image", image),
        ("truth", colour_labels(truth, colours)),
        ("prediction", colour_labels(prediction, colours)),
        (f"segments ({len(segment_names)})", colour_labels(ids, palette(segment_names))),
    ]
    return _join(parts, [truth, prediction], names)


def draw_side_by_side(
    image: np.ndarray | None,
    truth: np.ndarray | None,
    predictions: dict[str, np.ndarray],
    names: Sequence[str],
) -> Image.Image:
    """Draw an image, its truth and titled predictions side by side, with a legend.

    Args:
      image: uint8 (H, W, 3), or None to leave it out.
      truth: int (H, W), class ids, or None to leave it out.
      predictions: title and int (H, W) class ids of each.
      names: class names.
    """
    colours = palette(names)
    parts = [] if image is None else [("image", image)]
    maps = {} if truth is None else {"truth": truth}
    maps |= predictions
    parts += [(title, colour_labels(labels, colours)) for title, labels in maps.items()]
    return _join(parts, list(maps.values()), names)


def _join(
    parts: list[tuple[str, np.ndarray]], maps: list[np.ndarray], names: Sequence[str]
) -> Image.Image:
    width = len(parts) * (_PANEL_PX + _MARGIN_PX) + _MARGIN_PX
    scaled = [_fit(Image.fromarray(part), smooth=title == "image") for title, part in parts]
    height = max(part.height for part in scaled)
    canvas = Image.new("RGB", (width, height + _TITLE_PX + _MARGIN_PX), _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = _font(15)
    for i, ((title, _), part) in enumerate(zip(parts, scaled, strict=True)):
        x = _MARGIN_PX + i * (_PANEL_PX + _MARGIN_PX)
        while font.getlength(title) > _PANEL_PX and len(title) > 4:
            title = "..." + title[4:]  # runs differ at the end of the path
        draw.text((x, 5), title, fill=_INK, font=font)
        canvas.paste(part, (x, _TITLE_PX))
    colours = palette(names)
    shown = sorted({int(c) for labels in maps for c in np.unique(labels)})
    entries = [(names[c], colours[c]) for c in shown if 0 <= c < len(names)]
    return add_legend(np.asarray(canvas), entries)


def _fit(image: Image.Image, smooth: bool) -> Image.Image:
    scale = _PANEL_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resampling = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return image.resize((width, height), resampling)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)
