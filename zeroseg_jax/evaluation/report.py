"""Reports and pictures: the score line, a table, panels with a legend, overlays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PANEL_PX, _MARGIN_PX, _TITLE_PX, _LEGEND_PX = 224, 12, 26, 24
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
# Okabe and Ito's eight, told apart by most colour-blind eyes, then lighter and darker kin.
_BASE = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip


def palette(names: Sequence[str]) -> np.ndarray:
    """Return a colour for each class, uint8 (C, 3): black for "background" and nothing else."""
    first = 0 if names[0] == "background" else 1
    colours = []
    for i in range(first, first + len(names)):
        base = np.array(_BASE[i % len(_BASE)], np.float32)
        turn = i // len(_BASE)
        if turn:
            towards = 255.0 if turn % 2 else 0.0
            base = base + (towards - base) * min(0.45 + 0.15 * (turn // 2), 0.8)
        colours.append(base)
    return np.rint(np.stack(colours)).astype(np.uint8)


def colour_labels(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Paint int (H, W) labels with uint8 (C, 3): uint8 (H, W, 3); ids past C (ignored) grey."""
    count = len(colours)
    table = np.concatenate([colours, np.full((1, 3), 127, np.uint8)])
    return table[np.where((labels < 0) | (labels >= count), count, labels)]


def overlay(
    image: np.ndarray, labels: np.ndarray, colours: np.ndarray, opacity: float = 0.55
) -> np.ndarray:
    """Lay class colours over a picture, with a dark line between classes: uint8 (H, W, 3)."""
    painted = colour_labels(labels, colours).astype(np.float32)
    mixed = image * (1 - opacity) + painted * opacity
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    mixed[edge] = mixed[edge] * 0.25
    return np.rint(mixed).astype(np.uint8)


def add_legend(image: np.ndarray, entries: list[tuple[str, tuple[int, int, int]]]) -> Image.Image:
    """Put swatches with names under a picture, in as many rows as they need."""
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
        draw.rectangle((x, y + 1, x + 15, y + 16), fill=tuple(colour), outline=_INK)
        draw.text((x + 21, y), name, fill=_INK, font=font)
    return canvas


def draw_panel(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    segments: np.ndarray,
    names: Sequence[str],
) -> Image.Image:
    """Draw image, truth, prediction and segments side by side, with a legend of the classes."""
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
    """Draw image and truth, where given, and each titled prediction, with a legend."""
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
            title = "..." + title[4:]  # the end of a path tells runs apart
        draw.text((x, 5), title, fill=_INK, font=font)
        canvas.paste(part, (x, _TITLE_PX))
    colours = palette(names)
    shown = sorted({int(c) for labels in maps for c in np.unique(labels)})
    entries = [(names[c], tuple(int(v) for v in colours[c])) for c in shown if 0 <= c < len(names)]
    return add_legend(np.asarray(canvas), entries)


def _fit(image: Image.Image, smooth: bool) -> Image.Image:
    scale = _PANEL_PX / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def score_line(result: dict[str, Any]) -> str:
    """Say a score with everything it depends on."""
    return (
        f"{result['benchmark']}: mIoU {_say(result['miou'])} over {say_mean(result)} and "
        f"{say_images(result)} | {say_protocol(result)} | checkpoint {result['checkpoint']}"
    )


def say_images(result: dict[str, Any]) -> str:
    """Say over how many images a score is, and which options read them."""
    images, official = result["images"], result["official_images"]
    told = f"{images} images"
    if official and images not in official:
        told = f"{images} of {' or '.join(map(str, official))} images"
    options = ", ".join(f"{name} {value}" for name, value in result["options"].items())
    return f"{told} ({options})" if options else told


def say_mean(result: dict[str, Any]) -> str:
    """Say over how many classes the mean is."""
    if result["mean_over"] == "classes that occur":
        return f"{result['present_classes']} classes"
    return (
        f"all {result['classes']} classes ({result['present_classes']} occur, the others count 0)"
    )


def say_protocol(result: dict[str, Any]) -> str:
    """Say every number of a protocol in one line."""
    preset = result["preset"]
    if preset is None:
        return "predictions of another tool, whose protocol only their maker knows"
    words = result["words"]
    names = sum(len(synonyms) for synonyms in words)
    model = result["model"]
    scale = model.get("logit_scale", preset["logit_scale"])
    window = {-1: "whole picture", 0: "native"}.get(preset["window_px"], preset["window_px"])
    parts = [
        f"preset {preset['name']}",
        f"short side {preset['short_side_px'] or 'native'}",
        f"window {window}, stride {preset['stride_px'] or 'half'}",
        f"resize {preset['resize']}",
        f"normalisation {preset['normalisation']}",
        f"prompts {result['prompts']}",
        f"words {preset['words_file'] or 'of the benchmark'}, {len(words)} classes, "
        f"{names} names, {preset['names']}",
        f"naming {preset['naming']}",
        f"logit scale {scale}",
        f"filter {preset['image_filter']}"
        + (f" {preset['topk']}" if preset["image_filter"] != "none" else ""),
        f"threshold {preset['threshold'] or 'off'}"
        + (f" ({preset['threshold_rule']})" if preset["threshold"] else ""),
        f"background words {len(preset['background_words'])}",
        f"area threshold {preset['area_threshold'] or 'off'}",
        f"PAMR {_say_refinement(preset)}",
    ]
    return ", ".join(parts)


def _say_refinement(preset: dict[str, Any]) -> str:
    if not preset["pamr_dilations"]:
        return "off"
    size = preset["pamr_short_px"]
    at = f"short side at most {size}" if size else "full size"
    return f"{preset['pamr_iterations']} x {tuple(preset['pamr_dilations'])} at {at}"


def _say(value: float | None) -> str:
    return "absent" if value is None else f"{value:.2f}"


def write_markdown(result: dict[str, Any]) -> str:
    """Write report.md."""
    found = result["diagnostics"]
    lines = [
        f"# {result['benchmark']}",
        "",
        score_line(result),
        "",
        f"Pixel accuracy {_say(result['pixel_accuracy'])}, mean accuracy "
        f"{_say(result['mean_accuracy'])}, frequency-weighted IoU "
        f"{_say(result['frequency_weighted_iou'])}, boundary IoU "
        f"{_say(result['boundary_miou'])}. With each segment, unrefined, named by its commonest "
        f"true class: {_say(found['oracle_naming_miou'])}; with each true region given its "
        f"commonest label: {_say(found['oracle_segments_miou'])}. Segments over 1 % an image: "
        f"{found['segments_used_per_image']:.2f}, purity {_say(found['segment_purity'])}, "
        f"completeness {_say(found['segment_completeness'])}. Wrong pixels, in percent of all, by "
        f"cause: {', '.join(f'{k} {_say(v)}' for k, v in found['wrong_pixels'].items())}.",
        "",
    ]
    if split := result.get("split"):
        lines += [
            f"Seen {_say(split['seen'])}, unseen {_say(split['unseen'])}, harmonic "
            f"{_say(split['harmonic'])}; unseen: {', '.join(split['unseen_classes'])}.",
            "",
        ]
    lines += [f"- {note}" for note in result["notes"]] + [""] * bool(result["notes"])
    lines += ["| class | IoU | accuracy | boundary IoU |", "|---|---:|---:|---:|"]
    for name, value in result["per_class_iou"].items():
        accuracy = result["per_class_accuracy"][name]
        outline = result["per_class_boundary_iou"][name]
        lines.append(f"| {name} | {_say(value)} | {_say(accuracy)} | {_say(outline)} |")
    lines += ["", "| truth | taken for | pixels | of the true class, % |", "|---|---|---:|---:|"]
    for pair in result["confusion_pairs"]:
        lines.append(
            f"| {pair['truth']} | {pair['prediction']} | {pair['pixels']} | "
            f"{pair['share_of_truth']:.1f} |"
        )
    lines += ["", "| size of segments | segments |", "|---|---:|"]
    lines += [f"| {size} | {count} |" for size, count in found["segment_sizes"].items()]
    if result["preset"]:
        lines += ["", "| protocol | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in result["preset"].items()]
        lines += [f"| {name} | {value} |" for name, value in result["model"].items()]
        asked = "; ".join(", ".join(names) for names in result["words"])
        lines += ["", f"Words: {asked}"]
    return "\n".join([*lines, ""])
