"""Open vocabulary over a folder, and a page on which people choose between two models.

    python -m zeroseg_jax vote FOLDER --workdir=A --other=B --vocabulary=imagenet --output=DIR

Each picture is asked with every word of the vocabulary; the best words of each segment are drawn
and written to words.json. With --other (a run, an exported student, or dense:READOUT) the page
vote.html shows both side by side in a drawn order, and saves choices as votes.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags
from absl.flags import FLAGS

if TYPE_CHECKING:
    from PIL import Image

    from zeroseg_jax.inference.presets import Preset
    from zeroseg_jax.inference.scoring import ClassVectors
    from zeroseg_jax.inference.segmenters import Segmenter


def define_flags() -> None:
    """Define the command line."""
    absl_flags.DEFINE_string("workdir", "playground", "run, exported student, or dense:READOUT")
    absl_flags.DEFINE_string("other", "", "model to compare with, as --workdir; empty: none")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the one of the run")
    absl_flags.DEFINE_string(
        "vocabulary", "imagenet", "file of class names, one class per line; 'imagenet' is shipped"
    )
    absl_flags.DEFINE_string("preset", "zeroseg", "name of the protocol")
    absl_flags.DEFINE_string("preset_of", "folder", "benchmark whose numbers of the preset apply")
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example topk=3")
    absl_flags.DEFINE_integer("top", 3, "number of class names per segment", lower_bound=1)
    absl_flags.DEFINE_integer(
        "images", 0, "number of images, the first ones; 0: all", lower_bound=0
    )
    absl_flags.DEFINE_integer("seed", 0, "random seed of the left and right sides in vote.html")
    absl_flags.DEFINE_string("output", None, "directory of drawings, words.json and vote.html")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> int:
    """Name every picture's segments; bad pictures are told and the others done (exit code 1)."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise ValueError(f"vote: give one folder of pictures, not {' '.join(arguments) or 'none'}.")
    from zeroseg_jax.data import files
    from zeroseg_jax.data.sources import SUFFIXES
    from zeroseg_jax.data.transforms import ImageError, read_image
    from zeroseg_jax.evaluation import open_vocabulary as vocabulary
    from zeroseg_jax.evaluation import render as page
    from zeroseg_jax.evaluation import vote_page as ballot
    from zeroseg_jax.evaluation.classes import find_shared_names
    from zeroseg_jax.inference.presets import get_preset, parse_overrides
    from zeroseg_jax.teacher.class_embeddings import cache_directory
    from zeroseg_jax.teacher.prompts import PROMPTS

    folder = Path(arguments[0])
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    paths = paths[: FLAGS.images or None]
    if not paths:
        raise ValueError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}).")
    words = vocabulary.read_vocabulary(FLAGS.vocabulary)
    if shared := find_shared_names(words):
        print(f"vote: {len(shared)} words stand twice, among them {shared[0]!r}")
    preset = get_preset(FLAGS.preset, FLAGS.preset_of, parse_overrides(FLAGS.set))
    names, prompts = sum(map(len, words)), len(PROMPTS[preset.prompts])
    print(f"vote: {names} names in {prompts} prompts, kept in {cache_directory()}", flush=True)
    models = [FLAGS.workdir] + [FLAGS.other] * bool(FLAGS.other)
    segmenters = [_build(model, words, preset) for model in models]
    output = Path(FLAGS.output)
    record, drawn, failed = [], [], 0
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            image = read_image(path)
        except ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        row = [_name(segmenter, image, words, preset) for segmenter in segmenters]
        for side, (picture, _) in zip("ab", row, strict=False):
            files.write_png(output / side / f"{name}.png", picture)
        if FLAGS.other:
            left, right = (page.encode_data_url(picture) for picture, _ in row)
            drawn.append((name, left, right))
        record.append({"image": name, "models": [found for _, found in row]})
        print(f"{name}: " + ", ".join(s["words"][0]["word"] for s in row[0][1]), flush=True)
    output.mkdir(parents=True, exist_ok=True)
    content = {"models": models, "preset": FLAGS.preset, "words": len(words), "images": record}
    files.write_json(output / "words.json", content)
    if FLAGS.other:
        files.write_text(
            output / "vote.html", ballot.render_vote_page(drawn, tuple(models), FLAGS.seed)
        )
    if failed:
        print(f"vote: {failed} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 1 if failed else 0


def _build(
    name: str, class_names: list[list[str]], preset: Preset
) -> tuple[Segmenter, ClassVectors]:
    from zeroseg_jax.inference.model import embed_class_names, load, load_readout
    from zeroseg_jax.inference.segmenters import ModelSegmenter

    if name.startswith("dense:"):
        model = load_readout(FLAGS.teacher or "playground", name.removeprefix("dense:"))
    else:
        model = load(name, teacher=FLAGS.teacher)
    segmenter = ModelSegmenter(model, preset.normalisation)
    return segmenter, embed_class_names(model.teacher, class_names, preset)


def _name(
    model: tuple[Segmenter, ClassVectors], image: Any, words: list[list[str]], preset: Preset
) -> tuple[Image.Image, list[dict[str, Any]]]:
    from zeroseg_jax.evaluation import open_vocabulary as vocabulary

    names = [synonyms[0] for synonyms in words]
    segmenter, classes = model
    ids, found = vocabulary.name_segments(segmenter, image, classes, names, preset, FLAGS.top)
    return vocabulary.draw_words(image, ids, found), found
