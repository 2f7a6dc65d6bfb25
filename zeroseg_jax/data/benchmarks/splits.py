"""Seen and unseen classes of generalised zero-shot segmentation, as data.

Class names are in the order of ids of a label space without background; they come from the same
word lists that evaluation uses, and only which of them are unseen stands here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from zeroseg_jax.config import suggest
from zeroseg_jax.data.playground.scenes import SHAPES, STUFF

_WORDS = Path(__file__).parent / "words"


@dataclasses.dataclass(frozen=True)
class UnseenClasses:
    """Which ids of a label space are unseen, and who chose them.

    Attributes:
      label_space: a word list of benchmarks/words, or "playground/full".
      ids: ascending.
      source: of the choice.
    """

    label_space: str
    ids: tuple[int, ...]
    source: str


UNSEEN: dict[str, UnseenClasses] = {
    # Every third shape; all stuff is seen.
    "playground": UnseenClasses("playground/full", (2, 5, 8, 11), "own"),
    # Full labels: the supervised bound.
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
# By name, since the order of ids of Pascal Context differs between its distributions.
_CONTEXT_UNSEEN = (
    "cow", "motorbike", "sofa", "cat", "boat", "fence", "bird", "tvmonitor", "keyboard",
    "aeroplane",
)  # fmt: skip
_CONTEXT_SOURCE = "ZS5Net's 10 unseen (Bucher et al., NeurIPS 2019), as CLIP-ZSS"
SPLITS = (*UNSEEN, "context", "none")
# Benchmark -> the split that is usual on it.
BENCHMARKS = {
    "voc20": "voc",
    "coco_stuff171": "coco_stuff",
    "context59": "context",
    "playground/zss": "playground",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """Words of the seen and of the unseen classes.

    Attributes:
      name: of the split.
      classes: in all, seen and unseen.
      seen, unseen: ids in the full label space, ascending.
      seen_words, unseen_words: for each of them its synonyms.
    """

    name: str
    classes: int
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    seen_words: tuple[tuple[str, ...], ...]
    unseen_words: tuple[tuple[str, ...], ...]


def get_split(name: str) -> Split:
    """Return a split by name; "none" has no class at all.

    Raises:
      ValueError: an unknown name, or words that are seen and unseen at once.
    """
    if name not in SPLITS:
        raise ValueError(f"clip_zss.labels.split: {name!r} is not known; {suggest(name, SPLITS)}")
    if name == "none":
        return Split(name, 0, (), (), (), ())
    if name == "context":
        words = _read_words("context59")
        ids = tuple(sorted(_find(word, words) for word in _CONTEXT_UNSEEN))
        return build_split(name, words, ids)
    unseen = UNSEEN[name]
    return build_split(name, _read_words(unseen.label_space), unseen.ids)


def usual_unseen(benchmark: str, class_names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the ids that are usually unseen on a benchmark, None where there is no such split.

    Args:
      benchmark: its name.
      class_names: in the order of its ids.
    """
    split = BENCHMARKS.get(benchmark)
    if split == "context":
        words = tuple((name,) for name in class_names)
        return tuple(sorted(_find(word, words) for word in _CONTEXT_UNSEEN))
    return UNSEEN[split].ids if split else None


def build_split(name: str, words: tuple[tuple[str, ...], ...], unseen: tuple[int, ...]) -> Split:
    """Build a split of the classes that `words` lists.

    Raises:
      ValueError: an id that is not there, or a word that is both seen and unseen; names it.
    """
    outside = [i for i in unseen if not 0 <= i < len(words)]
    if outside:
        raise ValueError(
            f"clip_zss.labels.split {name}: class {outside[0]} is not one of {len(words)}."
        )
    seen = tuple(i for i in range(len(words)) if i not in unseen)
    seen_words = tuple(words[i] for i in seen)
    unseen_words = tuple(words[i] for i in unseen)
    both = {w.lower() for names in seen_words for w in names} & {
        w.lower() for names in unseen_words for w in names
    }
    if both:
        raise ValueError(
            f"clip_zss.labels.split {name}: {', '.join(sorted(both))} would be seen and unseen at "
            "once; give "
            "each class words of its own."
        )
    return Split(name, len(words), seen, tuple(unseen), seen_words, unseen_words)


def _read_words(label_space: str) -> tuple[tuple[str, ...], ...]:
    if label_space == "playground/full":
        return tuple((word,) for word in SHAPES + STUFF)
    path = _WORDS / f"{label_space}.txt"
    if not path.is_file():
        raise ValueError(f"{path}: missing; the split needs the words of {label_space}.")
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(w.strip() for w in line.split(";")) for line in lines if line.strip())


def _find(word: str, words: tuple[tuple[str, ...], ...]) -> int:
    """Find a class by one of its words, spaces and the usual second names aside."""
    wanted = {word, *_OTHER_NAMES.get(word, ())}
    for i, names in enumerate(words):
        if wanted & {name.replace(" ", "").lower() for name in names}:
            return i
    raise ValueError(
        f"clip_zss.labels.split context: no class is called {word!r} in its list of words."
    )


_OTHER_NAMES = {
    "motorbike": ("motorcycle",),
    "tvmonitor": ("monitor", "tv", "television"),
    "aeroplane": ("airplane",),
    "sofa": ("couch",),
}
