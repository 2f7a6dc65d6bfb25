"""Seen and unseen classes of generalised zero-shot segmentation, by name; values of --unseen.

A split is a word list (data/benchmarks/words) and the ids of its unseen classes, in a label space
without background.
"""

from __future__ import annotations

import dataclasses

from zeroseg_jax.config import suggest
from zeroseg_jax.data.benchmarks.word_lists import Rows, load_words
from zeroseg_jax.data.playground.scenes import SHAPES, STUFF


@dataclasses.dataclass(frozen=True)
class UnseenClasses:
    """Unseen classes of a label space.

    Attributes:
      label_space: name of a word list, or "playground/full".
      ids: ids of the unseen classes, ascending.
      source: paper that chose them, or "own".
    """

    label_space: str
    ids: tuple[int, ...]
    source: str


UNSEEN: dict[str, UnseenClasses] = {
    # Every third shape; all stuff is seen.
    "playground": UnseenClasses("playground/full", (2, 5, 8, 11), "own"),
    # All labels: the supervised upper bound.
    "playground-all": UnseenClasses("playground/full", (), "own"),
    # potted plant, sheep, sofa, train, monitor
    "voc": UnseenClasses(
        "voc20", (15, 16, 17, 18, 19), "SPNet (Xian et al., CVPR 2019), as ZegCLIP and CLIP-ZSS"
    ),
    # cow, giraffe, suitcase, frisbee, skateboard, carrot, scissors, cardboard, clouds, grass,
    # playing field, river, road, tree, concrete wall
    "coco_stuff": UnseenClasses(
        "coco_stuff171",
        (19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160),
        "SPNet (Xian et al., CVPR 2019), as ZegCLIP and CLIP-ZSS",
    ),
}
# ZS5Net's ten unseen classes (Bucher et al., NeurIPS 2019), as CLIP-ZSS. By name, because
# distributions of Pascal Context order the ids differently. Spellings of the distributions follow.
_CONTEXT_UNSEEN: Rows = (
    ("cow",), ("motorbike", "motorcycle"), ("sofa", "couch"), ("cat",), ("boat",), ("fence",),
    ("bird",), ("tvmonitor", "monitor", "tv", "television"), ("keyboard",),
    ("aeroplane", "airplane"),
)  # fmt: skip
SPLITS = (*UNSEEN, "context", "none")
# Usual split of a benchmark.
BENCHMARKS = {
    "voc20": "voc",
    "coco_stuff171": "coco_stuff",
    "context59": "context",
    "playground/zss": "playground",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """Seen and unseen classes with their names.

    Attributes:
      name: name of the split.
      classes: number of classes, seen and unseen.
      seen, unseen: ids in the label space, ascending.
      seen_words, unseen_words: synonyms of each seen and each unseen class.
    """

    name: str
    classes: int
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    seen_words: Rows
    unseen_words: Rows


def get_split(name: str) -> Split:
    """Return a split by name.

    Args:
      name: one of SPLITS; "none" has no classes.

    Raises:
      ValueError: the name is unknown, or a class name is both seen and unseen.
    """
    if name not in SPLITS:
        raise ValueError(f"clip_zss.labels.split: {name!r} is not known; {suggest(name, SPLITS)}")
    if name == "none":
        return Split(name, 0, (), (), (), ())
    if name == "context":
        rows = load_words("context59")
        return build_split(name, rows, _find_context(rows))
    unseen = UNSEEN[name]
    if unseen.label_space == "playground/full":
        return build_split(name, tuple((word,) for word in SHAPES + STUFF), unseen.ids)
    return build_split(name, load_words(unseen.label_space), unseen.ids)


def build_split(name: str, rows: Rows, unseen: tuple[int, ...]) -> Split:
    """Build a split.

    Args:
      name: name of the split.
      rows: synonyms of each class, in the order of ids.
      unseen: ids of the unseen classes.

    Raises:
      ValueError: an id is out of range, or a class name is both seen and unseen.
    """
    outside = [i for i in unseen if not 0 <= i < len(rows)]
    if outside:
        raise ValueError(
            f"clip_zss.labels.split {name}: class {outside[0]} is not one of {len(rows)}."
        )
    seen = tuple(i for i in range(len(rows)) if i not in unseen)
    seen_words = tuple(rows[i] for i in seen)
    unseen_words = tuple(rows[i] for i in unseen)
    both = {w.lower() for row in seen_words for w in row} & {
        w.lower() for row in unseen_words for w in row
    }
    if both:
        raise ValueError(
            f"clip_zss.labels.split {name}: {', '.join(sorted(both))} would be seen and unseen at "
            "once; give each class its own names."
        )
    return Split(name, len(rows), seen, tuple(unseen), seen_words, unseen_words)


def find_unseen(text: str, benchmark: str, class_names: tuple[str, ...]) -> list[int]:
    """Parse the flag --unseen.

    Args:
      text: "" for no split, "usual" for the usual one, or class names separated by ";".
      benchmark: name of the benchmark.
      class_names: class names of the benchmark, in the order of ids.

    Returns:
      Ids of the unseen classes, ascending.

    Raises:
      ValueError: the benchmark has no usual split, or no class of that name.
    """
    if not text:
        return []
    if text == "usual":
        split = BENCHMARKS.get(benchmark)
        if split is None:
            raise ValueError(
                f"--unseen: there is no usual split of {benchmark!r} (only of "
                f"{', '.join(BENCHMARKS)}); give class names separated by ';'."
            )
        if split == "context":
            return list(_find_context(tuple((name,) for name in class_names)))
        return list(UNSEEN[split].ids)
    ids = []
    for name in (part.strip() for part in text.split(";")):
        if name not in class_names:
            raise ValueError(
                f"--unseen: {name!r} is no class of {benchmark}; {suggest(name, class_names)}"
            )
        ids.append(class_names.index(name))
    return sorted(set(ids))


def _find_context(rows: Rows) -> tuple[int, ...]:
    """Return the ids of Pascal Context's unseen classes, ignoring spaces and case."""
    plain = [{name.replace(" ", "").lower() for name in row} for row in rows]
    ids = []
    for spellings in _CONTEXT_UNSEEN:
        found = [i for i, names in enumerate(plain) if names & set(spellings)]
        if not found:
            raise ValueError(
                f"clip_zss.labels.split context: no class is called {spellings[0]!r} in the word "
                "list of context59; add it there."
            )
        ids.append(found[0])
    return tuple(sorted(ids))
