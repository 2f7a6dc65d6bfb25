"""Segment images with class names: zeroseg segment photo.jpg --words "dog, sofa".

An argument is a file, a folder, a glob, a video, an https address, or - for standard input. Each
image gives an overlay, an index mask and a JSON file; flags add cut-outs and polygons. --output=-
writes the overlay of one image to standard output, or the polygons if --polygons is given. Exit
code 0: all done; 1: some files were unreadable, each reported; 2: usage error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import compute, flags
from zeroseg_jax.data.mirrors import local_path
from zeroseg_jax.data.progress import ImageProgress
from zeroseg_jax.inference.class_names import read_classes

STDOUT = "-"

if TYPE_CHECKING:
    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.segmentation import Segmentation


def define_flags() -> None:
    """Define the command line."""
    flags.define_model()
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example stride_px=28")
    absl_flags.DEFINE_string(
        "words", None, "class names: 'dog/puppy, sofa', 'dog, puppy; sofa' or @FILE, a class a line"
    )
    absl_flags.DEFINE_alias("classes", "words")
    absl_flags.DEFINE_string(
        "output", "segmented", "directory for overlays, masks and JSON; -: standard output"
    )
    absl_flags.DEFINE_string(
        "background", "", "auto, none, threshold under which a pixel is background, or its classes"
    )
    absl_flags.DEFINE_integer("detail", 1, "multiple of the training resolution", 1)
    absl_flags.DEFINE_enum(
        "refine", None, ["guided", "pamr", "none"], "edge refinement; by default the model's own"
    )
    absl_flags.DEFINE_boolean("cutout", False, "a PNG with alpha of each class that was found")
    absl_flags.DEFINE_enum(
        "polygons", None, ["geojson", "coco"], "format of a file with the classes' outlines"
    )
    absl_flags.DEFINE_float("every_seconds", 1.0, "seconds between frames of a video; 0: all", 0.0)
    compute.define_compute()
    absl_flags.mark_flag_as_required("words")


def read_background(text: str) -> float | str | None:
    """Parse a threshold or class names; "" is None."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return text


def load_predictor() -> Predictor:
    """Load the model of the flags.

    Raises:
      ValueError: no such model, a setting that is wrong, or --refine=pamr without distances.
    """
    from zeroseg_jax.inference.predictor import Predictor
    from zeroseg_jax.inference.presets import parse_overrides

    settings = parse_overrides(FLAGS.set)
    if FLAGS.refine:
        settings["refine"] = FLAGS.refine
    predictor = Predictor.from_pretrained(
        FLAGS.model, teacher=FLAGS.teacher, readout=FLAGS.readout, settings=settings,
        dtype=FLAGS.dtype or "",
    )  # fmt: skip
    if FLAGS.refine == "pamr" and not predictor.preset.pamr_dilations:
        raise ValueError(
            f"--refine: preset {predictor.preset.name} has no distances of PAMR; add "
            '--set="pamr_dilations=8;16;32,pamr_short_px=224".'
        )
    return predictor


def main(arguments: list[str]) -> int:
    """Segment each image; unreadable files are reported and skipped (exit code 1)."""
    if not arguments:
        raise ValueError("no image given; name at least one file, folder or glob.")
    classes = read_classes(FLAGS.words, "--words")
    background = read_background(FLAGS.background)
    piped = FLAGS.output == STDOUT
    output = local_path(FLAGS.output, "--output")

    # Imported late so that usage errors are reported before JAX loads.
    from zeroseg_jax.inference.image_files import VIDEO_SUFFIXES, list_files, read_images
    from zeroseg_jax.inference.outputs import check_polygons
    from zeroseg_jax.inference.segmentation import NOTHING_FOUND

    files = list_files(arguments, exclude=output, log=_note)
    videos = [f for f in files if isinstance(f, Path) and f.suffix.lower() in VIDEO_SUFFIXES]
    if piped and (len(files) > 1 or videos or FLAGS.cutout):
        raise ValueError("--output: - takes one image and no --cutout; give a directory.")
    if FLAGS.polygons:
        check_polygons(FLAGS.polygons)
    compute.select_device(FLAGS.device)
    flags.use_compilation_cache()
    predictor = load_predictor()
    if note := predictor.facts["note"]:
        _note(f"segment: {note}")
    inputs = [file for file in files if isinstance(file, Path)]
    progress = ImageProgress(0 if videos else len(files))
    done = failed = 0
    for found in read_images(files, every_seconds=FLAGS.every_seconds):
        if isinstance(found.image, ValueError):
            _note(f"error: {found.image}")
            failed += 1
        else:
            result = predictor.segment(
                found.image, classes, background=background, detail=FLAGS.detail,
                source=found.source,
            )  # fmt: skip
            if piped:
                write_stdout(result, FLAGS.polygons or "")
            else:
                result.save(
                    output, found.stem, cutout=FLAGS.cutout, polygons=FLAGS.polygons or "",
                    inputs=inputs,
                )  # fmt: skip
            done += 1
            if not result.found:
                _note(f"segment: {found.source}: {NOTHING_FOUND}")
            print(render_table(result), flush=True, file=sys.stderr if piped else sys.stdout)
        if line := progress.add():
            _note(f"segment: {line}")
    if done and not piped:
        print(f"segment: {done} written to {output}")
    if failed:
        _note(f"segment: {failed} of {done + failed} were unreadable")
    return 1 if failed else 0


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def write_stdout(result: Segmentation, polygons: str) -> None:
    """Write the overlay as PNG to standard output, or polygons as JSON."""
    if polygons:
        print(json.dumps(result.to_polygons(polygons)))
    else:
        result.overlay().save(sys.stdout.buffer, "PNG")
        sys.stdout.buffer.flush()


def render_table(result: Segmentation) -> str:
    """Render the classes of an image with areas and scores, largest first, absent ones last."""
    height, width = result.mask.shape
    rows = [c for c in result.classes if c["area_px"]]
    wide = max(len("word"), *(len(row["word"]) for row in rows))
    lines = [f"{result.source}, {width} x {height} px", f"  {'word':{wide}}   area %   score"]
    lines += [f"  {c['word']:{wide}}  {100 * c['area']:7.1f}  {c['score']:6.2f}" for c in rows]
    if absent := [c["word"] for c in result.classes if not c["area_px"]]:
        lines.append(f"  nowhere: {', '.join(absent)}")
    return "\n".join(lines)
