"""Reports of results: the score line and Markdown tables."""

from __future__ import annotations

from typing import Any


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
