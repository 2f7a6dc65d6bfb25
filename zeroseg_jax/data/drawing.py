"""Colours of classes, overlays, legends and panels of label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, special

_PANEL_PX, _MARGIN_PX, _TITLE_PX, _LEGEND_PX = 224, 12, 26, 24
_PAPER, _INK, _IGNORED = (255, 255, 255), (30, 30, 30), 127
# Okabe and Ito's eight colours, distinguishable with most kinds of colour blindness. Further
# classes get lighter and darker versions.
_BASE = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_LINE_PX = 1.6  # width of outlines in images of at most _SCALE_PX
_LIGHT = 0.65  # share of white in outlines
_SCALE_PX = 1000  # long side from which lines and letters grow with the image
_STRIPE_ROWS = 128  # blended at once, so that a large image needs no float copy
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


def soft_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    colours: np.ndarray,
    opacity: float = 0.45,
    *,
    unpainted: int | None = None,
) -> np.ndarray:
    """Blend class colours with an image, with anti-aliased light outlines between classes.

    Each class's area is blurred. Where the two strongest classes of a pixel are equal is the
    border, and their ratio gives the distance to it. Lines grow with the image.

    Args:
      image: uint8 (H, W, 3).
      labels: int (H, W); see colour_labels.
      colours: uint8 (C, 3).
      opacity: share of the class colours, in [0, 1].
      unpainted: class that has the image's own colours, such as the background.

    Returns:
      uint8 (H, W, 3).
    """
    scale = find_scale(image.shape[:2])
    count = len(colours)
    table = np.concatenate([colours, np.full((1, 3), _IGNORED, np.uint8)]).astype(np.float32)
    result = np.empty_like(image)
    margin = _blur_px(scale)
    for top in range(0, len(image), _STRIPE_ROWS):
        part = np.s_[top : top + _STRIPE_ROWS]
        first = max(top - margin, 0)
        near = labels[first : top + _STRIPE_ROWS + margin].astype(np.int32)
        near[(near < 0) | (near >= count)] = count
        winner, second, distance = (
            found[top - first :][:_STRIPE_ROWS] for found in _find_borders(near, sigma=scale)
        )
        away = distance[..., None]
        share = np.clip(0.5 + away, 0.5, 1)
        strongest, other = table[winner], table[second]
        if unpainted is not None:
            for classes, paint in ((winner, strongest), (second, other)):
                np.copyto(paint, image[part], where=(classes == unpainted)[..., None])
        painted = strongest * share
        painted += other * (1 - share)
        mixed = image[part] * np.float32(1 - opacity) + painted * np.float32(opacity)
        line = np.clip(_LINE_PX * scale / 2 + 0.5 - away, 0, 1)
        mixed += (painted * (1 - _LIGHT) + 255 * _LIGHT - mixed) * line
        result[part] = np.rint(mixed)
    return result


def find_scale(size: Sequence[int]) -> float:
    """Return the factor of line widths and letters for an image of some (height, width)."""
    return max(1.0, max(size) / _SCALE_PX)


def _blur_px(sigma: float) -> int:
    """Return the reach of a blur in pixels."""
    return int(4 * sigma) + 1


def _find_borders(ids: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two strongest blurred classes of each pixel, and the distance to their border.

    Args:
      ids: int (H, W), at least 0.
      sigma: standard deviation of the blur in pixels.

    Returns:
      int32 (H, W) twice, and float32 (H, W) in pixels, at most 4 sigma.
    """
    best, next_best = np.zeros(ids.shape, np.float32), np.zeros(ids.shape, np.float32)
    winner, second = np.zeros(ids.shape, np.int32), np.zeros(ids.shape, np.int32)
    margin = _blur_px(sigma)
    for k, area in enumerate(ndimage.find_objects(ids + 1)):
        if area is None:
            continue
        near = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in area)
        share = ndimage.gaussian_filter((ids[near] == k).astype(np.float32), sigma, mode="nearest")
        b, n, w, s = best[near], next_best[near], winner[near], second[near]
        wins = share > b
        np.copyto(s, w, where=wins)
        np.copyto(n, b, where=wins)
        places = ~wins & (share > n)
        np.copyto(s, k, where=places)
        np.copyto(n, share, where=places)
        np.copyto(w, k, where=wins)
        np.copyto(b, share, where=wins)
    distance = np.full(ids.shape, 4 * sigma, np.float32)
    close = next_best > 1e-4
    ratio = best[close] / (best[close] + next_best[close])
    # A blurred straight border is a normal distribution function of the distance.
    distance[close] = np.minimum(sigma * special.ndtri(ratio), 4 * sigma)
    return winner, second, distance


def add_legend(
    image: np.ndarray,
    entries: Sequence[tuple[str, Sequence[int] | np.ndarray]],
    scale: float = 1.0,
) -> Image.Image:
    """Add rows of named colour swatches below an image.

    Args:
      image: uint8 (H, W, 3), placed at the top left.
      entries: name and RGB colour of each swatch, levels in [0, 255].
      scale: factor of swatches and letters.
    """

    def px(length: float) -> int:
        return round(length * scale)

    font = _font(px(15))
    margin, line = px(_MARGIN_PX), px(_LEGEND_PX)
    widths = [px(22) + int(font.getlength(name)) + px(16) for name, _ in entries]
    width = max(image.shape[1], 240, *(margin + wide for wide in widths))
    places, x, row = [], margin, 0
    for (name, colour), wide in zip(entries, widths, strict=True):
        if x + wide > width and x > margin:
            x, row = margin, row + 1
        places.append((x, row, name, colour))
        x += wide
    height = image.shape[0] + (row + 1) * line + px(8)
    canvas = Image.new("RGB", (width, height), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for x, row, name, colour in places:
        y = image.shape[0] + px(6) + row * line
        box = (x, y + px(1), x + px(15), y + px(16))
        draw.rectangle(box, fill=tuple(map(int, colour)), outline=_INK)
        draw.text((x + px(21), y), name, fill=_INK, font=font)
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
