"""Segment pictures with words: python -m zeroseg_jax.segment IMAGE... --classes "star; grass"."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from absl import flags as absl_flags
from absl.flags import FLAGS
from PIL import Image

from zeroseg_jax import flags
from zeroseg_jax.data.transforms import ImageError, read_image
from zeroseg_jax.evaluation import build, report, runner
from zeroseg_jax.evaluation.presets import get_preset, parse_overrides

_MAX_WORDS = 1000
_PRESET_OF = "playground/full"  # the student's own size, its captions' prompts


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", "playground", "a run, an exported student, 'playground'")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the run's own")
    absl_flags.DEFINE_string("classes", None, "words, with ';' between classes, ',' for synonyms")
    absl_flags.DEFINE_string("output", None, "directory for overlays, masks and JSON")
    absl_flags.DEFINE_float(
        "background", 0.0, "threshold under which a pixel is background; 0: none", 0.0, 1.0
    )
    absl_flags.DEFINE_string("set", "", "fields of the preset, for example stride_px=28")
    absl_flags.mark_flags_as_required(["classes", "output"])


def parse_classes(text: str) -> list[list[str]]:
    """Parse "star; ring, hoop; grass" into synonyms of each class.

    Raises:
      ValueError: no word, a blank one, one that stands twice, or too many.
    """
    words = [[word.strip() for word in part.split(",")] for part in text.split(";")]
    flat = [word for synonyms in words for word in synonyms]
    if any(not word for word in flat):
        raise ValueError(f"--classes: {text!r} has a blank word; write for example 'star; grass'.")
    twice = sorted({word for word in flat if flat.count(word) > 1}) if len(flat) < 10_000 else []
    if twice:
        raise ValueError(f"--classes: {', '.join(twice)} stands twice; name each word once.")
    if len(words) > _MAX_WORDS:
        raise ValueError(f"--classes: {len(words)} classes are more than {_MAX_WORDS}.")
    return words


def main(arguments: list[str]) -> int:
    """Segment each image; a bad one is named and the others are still done (exit code 1)."""
    if not arguments:
        raise ValueError("no image given; name at least one file.")
    words = parse_classes(FLAGS.classes)
    student = build.load_student(FLAGS.workdir, FLAGS.teacher)
    overrides = {"threshold": str(FLAGS.background), **parse_overrides(FLAGS.set)}
    preset = get_preset("zeroseg", _PRESET_OF, overrides)
    segmenter = build.build_student_segmenter(student, words, preset)
    names = [synonyms[0] for synonyms in words]
    if preset.threshold:
        names = ["background", *names]
    output = Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    taken: set[str] = set()
    for argument in arguments:
        try:
            image = read_image(argument)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        stem = _free_stem(Path(argument).stem, taken)
        labels, scores, _ = runner.segment_image(segmenter, image, preset)
        _write(output, stem, argument, image, labels, scores, names, student.checkpoint)
    if failed:
        print(f"segment: {failed} of {len(arguments)} images could not be read", file=sys.stderr)
    return 1 if failed else 0


def _free_stem(stem: str, taken: set[str]) -> str:
    """Two files of one name from two folders must not overwrite each other."""
    number, free = 1, stem
    while free in taken:
        number += 1
        free = f"{stem}-{number}"
    taken.add(free)
    return free


def _write(output, stem, source, image, labels, scores, names, checkpoint) -> None:
    colours = report.palette(names)
    classes = []
    for i, name in enumerate(names):
        inside = labels == i
        classes.append(
            {
                "word": name,
                "index": i,
                "colour": "#{:02x}{:02x}{:02x}".format(*colours[i]),
                "area_px": int(inside.sum()),
                "area": round(float(inside.mean()), 6),
                "score": round(float(scores[inside].mean()), 4) if inside.any() else None,
            }
        )
    shown = sorted((c for c in classes if c["area_px"]), key=lambda c: -c["area_px"])
    entries = [
        (f"{c['word']} {100 * c['area']:.0f} %", tuple(int(v) for v in colours[c["index"]]))
        for c in shown
    ]
    painted = report.overlay(image, labels, colours)
    runner.save_png(report.add_legend(painted, entries), output / f"{stem}_overlay.png")
    # An index PNG: its pixels are class ids, its palette their colours.
    mask = Image.fromarray(labels.astype(np.uint8 if len(names) <= 256 else np.uint16))
    if len(names) <= 256:
        mask = mask.convert("P")
        mask.putpalette(colours.ravel().tolist())
    runner.save_png(mask, output / f"{stem}_mask.png")
    content = {"image": source, "height": labels.shape[0], "width": labels.shape[1],
               "checkpoint": checkpoint, "classes": classes}  # fmt: skip
    part = output / f"{stem}.json.part"
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, output / f"{stem}.json")
    print(f"{source}: " + ", ".join(name for name, _ in entries))


if __name__ == "__main__":
    flags.run(main, define_flags)
