"""Report of an evaluation: the score line, the protocol, and the sections of report.md."""

from __future__ import annotations

from typing import Any

from PIL import Image

from zeroseg_jax.evaluation.render import Cell, Section, render_cell
from zeroseg_jax.inference.presets import read_refinement


def render_score_line(result: dict[str, Any]) -> str:
    """Render a score with its images, classes and checkpoint, in one line.

    Args:
      result: content of report.json.
    """
    return (
        f"{result['benchmark']}: mIoU {render_cell(result['miou'])} over {_render_mean(result)} "
        f"and {_render_images(result)}, checkpoint {result['checkpoint']}"
    )


def _render_images(result: dict[str, Any]) -> str:
    images, official = result["images"], result["official_images"]
    count = f"{images} images"
    if official and images not in official:
        count = f"{images} of {' or '.join(map(str, official))} images"
    options = ", ".join(f"{name} {value}" for name, value in result["options"].items())
    return f"{count} ({options})" if options else count


def _render_mean(result: dict[str, Any]) -> str:
    if result["mean_over"] == "classes that occur":
        return f"{result['present_classes']} classes"
    return f"all {result['classes']} classes ({result['present_classes']} occur, others count 0)"


def render_protocol(result: dict[str, Any]) -> str:
    """Render every setting of a protocol, in one line; see list_protocol."""
    settings = list_protocol(result)
    if not settings:
        return "predictions of another tool, protocol unknown"
    return ", ".join(f"{name} {value}" for name, value in settings)


def list_protocol(result: dict[str, Any]) -> list[tuple[str, str]]:
    """List name and value of what a score depends on; empty for another tool's predictions.

    Args:
      result: content of report.json.
    """
    preset = result["preset"]
    if preset is None:
        return []
    names = sum(len(synonyms) for synonyms in result["words"])
    # Early reports have no `window`; a window_px of -1 is the whole image there.
    kind = preset.get("window", "whole" if preset["window_px"] < 0 else "sliding")
    window = kind.replace("_", " ") if kind != "sliding" else preset["window_px"] or "native"
    image_filter, threshold = preset["image_filter"], preset["threshold"]
    share = preset.get("vocabulary_share", 0)
    settings = {
        "preset": preset["name"],
        "short side": f"{preset['short_side_px'] or 'native'}{_render_limit(preset)}",
        "window": f"{window}, stride {preset['stride_px'] or 'half'}",
        "resize": preset["resize"],
        "normalisation": preset["normalisation"],
        "prompts": result["prompts"],
        "class names": f"{preset['words_file'] or 'of the benchmark'}, {len(result['words'])} "
        f"classes, {names} names, {preset['names']}",
        "naming": preset["naming"],
        "logit scale": result["model"].get("logit_scale", preset["logit_scale"]),
        "filter": image_filter + (f" {preset['topk']}" if image_filter != "none" else ""),
        "threshold": f"{threshold} ({preset['threshold_rule']})" if threshold else "off",
        "background words": len(preset["background_words"]),
        "area threshold": preset["area_threshold"] or "off",
        # A report of an earlier version has no `vocabulary_share`; every class was kept.
        "vocabulary": f"share {share} of the best" if share else "all classes",
        "refinement": _render_refinement(preset),
    }
    return [(name, str(value)) for name, value in settings.items()]


def _render_limit(preset: dict[str, Any]) -> str:
    # A report of an earlier version has no `long_side_px`; 2048 was the limit.
    limit = preset.get("long_side_px", 2048)
    return "" if limit == 2048 else f", long side at most {limit}"


def _render_refinement(preset: dict[str, Any]) -> str:
    refine = read_refinement(preset)
    if refine == "guided":
        # Before the fields there was one radius and one ridge.
        radius, eps = preset.get("guided_radius", 1 / 12), preset.get("guided_eps", 1e-3)
        return f"guided filter, radius {radius:.3g} of the short side, eps {eps:g}"
    if refine == "none":
        return "off"
    size = preset["pamr_short_px"]
    resolution = f"short side at most {size}" if size else "full size"
    return f"PAMR {preset['pamr_iterations']} x {tuple(preset['pamr_dilations'])} at {resolution}"


def build_sections(result: dict[str, Any], panels: list[tuple[str, Image.Image]]) -> list[Section]:
    """Arrange a result for report.md and report.html.

    Args:
      result: content of report.json.
      panels: captions and images of the figure section.
    """
    sections = [
        Section(
            paragraphs=[render_score_line(result), *result["notes"], *_render_split(result)],
            head=("measure", "value"),
            rows=_list_measures(result),
        ),
        _build_protocol(result),
        Section("Images", figures=panels),
        Section(
            "Classes",
            head=("class", "IoU", "accuracy", "boundary IoU"),
            rows=[
                (
                    name,
                    iou,
                    result["per_class_accuracy"][name],
                    result["per_class_boundary_iou"][name],
                )
                for name, iou in result["per_class_iou"].items()
            ],
        ),
        Section(
            "Confusions",
            head=("truth", "prediction", "pixels", "% of the true class"),
            rows=[tuple(pair.values()) for pair in result["confusion_pairs"]],
        ),
        Section(
            "Segment sizes",
            head=("size", "segments"),
            rows=list(result["diagnostics"]["segment_sizes"].items()),
        ),
    ]
    if result["preset"]:
        settings = {**result["preset"], **result["model"]}
        names = "; ".join(", ".join(synonyms) for synonyms in result["words"])
        sections.append(
            Section(
                "Every setting",
                paragraphs=[f"Class names: {names}"],
                head=("field", "value"),
                rows=[(name, str(value)) for name, value in settings.items()],
            )
        )
    return sections


def _list_measures(result: dict[str, Any]) -> list[tuple[str, Cell]]:
    diagnostics = result["diagnostics"]
    split = result.get("split", {})
    measures: dict[str, Cell] = {
        "mIoU": result["miou"],
        **{f"{name} mIoU": split[name] for name in ("seen", "unseen", "harmonic") if split},
        "classes that occur": result["present_classes"],
        "images": result["images"],
        "pixel accuracy": result["pixel_accuracy"],
        "mean accuracy": result["mean_accuracy"],
        "frequency-weighted IoU": result["frequency_weighted_iou"],
        "boundary IoU": result["boundary_miou"],
        # Reports of earlier versions have no such metrics.
        "mask mIoU (masks without their names)": result.get("mask_miou"),
        "matched masks under another name, %": result.get("masks_renamed"),
        "open mIoU (names by their similarity)": result.get("open_miou"),
        "mIoU of the segments with their commonest true classes": diagnostics["oracle_naming_miou"],
        "mIoU of the true regions with their commonest predictions": diagnostics[
            "oracle_segments_miou"
        ],
        "segment purity": diagnostics["segment_purity"],
        "segment completeness": diagnostics["segment_completeness"],
        **{f"wrong pixels: {cause}": share for cause, share in diagnostics["wrong_pixels"].items()},
        "segments over 1 % an image": diagnostics["segments_used_per_image"],
        **{name.replace("_", " "): value for name, value in result["affected"].items()},
    }
    return list(measures.items())


def _build_protocol(result: dict[str, Any]) -> Section:
    settings = list_protocol(result)
    if not settings:
        return Section("Protocol", paragraphs=[render_protocol(result)])
    # A report of an earlier version has no `differences`.
    found = result.get("differences") or []
    known = f"Known differences from the published protocol: {'; '.join(found)}."
    return Section(
        "Protocol", paragraphs=[known] if found else [], head=("setting", "value"), rows=settings
    )


def _render_split(result: dict[str, Any]) -> list[str]:
    split = result.get("split")
    return [f"Unseen classes: {', '.join(split['unseen_classes'])}."] if split else []
