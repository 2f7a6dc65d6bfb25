"""`zeroseg vote FOLDER --output=DIR`: class names of a folder's segments, and a page for votes.

    zeroseg vote FOLDER --workdir=A --other=B --vocabulary=imagenet --output=DIR

Each image is scored against every class name of the vocabulary. The best names of each segment are
drawn and written to words.json. With --other, vote.html shows the drawings of both models side by
side, in random order, and saves the choices as votes.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags as absl_flags
from absl.flags import FLAGS


def define_flags() -> None:
    """Define the flags of `vote`."""
    absl_flags.DEFINE_string("workdir", "playground", "run, exported student or dense:READOUT")
    absl_flags.DEFINE_string("other", "", "second model, like --workdir; empty: none")
    absl_flags.DEFINE_string("teacher", "", "directory of the CLIP; empty: the one of the run")
    absl_flags.DEFINE_string(
        "vocabulary", "imagenet", "file of class names, one class per line; 'imagenet' is shipped"
    )
    absl_flags.DEFINE_string("preset", "zeroseg", "name of the protocol")
    absl_flags.DEFINE_string("preset_of", "folder", "benchmark whose values of the preset are used")
    absl_flags.DEFINE_string("set", "", "preset fields to override, for example stride_px=28")
    absl_flags.DEFINE_integer("top", 3, "number of class names of a segment", lower_bound=1)
    absl_flags.DEFINE_integer("images", 0, "maximum number of images; 0: all", lower_bound=0)
    absl_flags.DEFINE_integer("seed", 0, "random seed of the sides in vote.html")
    absl_flags.DEFINE_string("output", None, "directory of drawings, words.json and vote.html")
    absl_flags.mark_flag_as_required("output")


def main(arguments: list[str]) -> int:
    """Name the segments of every image; 1 if an image is unreadable, the others are done."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise ValueError(f"vote: {' '.join(arguments) or 'nothing'} is not a folder; give one.")
    from zeroseg_jax.evaluation import open_vocabulary
    from zeroseg_jax.evaluation.baselines import build_segmenter
    from zeroseg_jax.evaluation.classes import find_shared_names
    from zeroseg_jax.inference.model import DRAWN_ONLY
    from zeroseg_jax.inference.presets import get_preset, parse_overrides
    from zeroseg_jax.teacher.class_embeddings import cache_directory
    from zeroseg_jax.teacher.prompts import PROMPTS

    folder = Path(arguments[0])
    paths = open_vocabulary.list_images(folder, FLAGS.images)
    class_names = open_vocabulary.read_vocabulary(FLAGS.vocabulary)
    if shared := find_shared_names(class_names):
        print(f"vote: {len(shared)} names occur twice, for example {shared[0]!r}")
    preset = get_preset(FLAGS.preset, FLAGS.preset_of, parse_overrides(FLAGS.set))
    names, prompts = sum(map(len, class_names)), len(PROMPTS[preset.prompts])
    print(f"vote: {names} names in {prompts} prompts, cached in {cache_directory()}", flush=True)
    models = {
        name: build_segmenter(name, class_names, preset, teacher=FLAGS.teacher)[:2]
        for name in _model_names()
    }
    if "playground" in models:
        print(f"vote: playground: {DRAWN_ONLY}", flush=True)
    errors = open_vocabulary.name_images(
        folder,
        paths,
        models,
        [synonyms[0] for synonyms in class_names],
        preset,
        Path(FLAGS.output),
        top=FLAGS.top,
        seed=FLAGS.seed,
        log=lambda line: print(line, flush=True),
    )
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        print(f"vote: {len(errors)} of {len(paths)} images are unreadable", file=sys.stderr)
    return 1 if errors else 0


def _model_names() -> list[str]:
    if FLAGS.other == FLAGS.workdir:
        raise ValueError(f"--other: {FLAGS.other} is --workdir itself; give another model.")
    return [name for name in (FLAGS.workdir, FLAGS.other) if name]
