"""Variants of a benchmark's class names: synonyms, plurals, word order, distractors.

Every variant names the same classes, so a model that understands names gives the same labels.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from zeroseg_jax.data.benchmarks.word_lists import WORDS, load_imagenet_words, read_words

Names = list[list[str]]
_IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "child": "children", "mouse": "mice",
    "goose": "geese", "foot": "feet", "tooth": "teeth", "ox": "oxen", "knife": "knives",
    "leaf": "leaves", "shelf": "shelves", "wolf": "wolves", "loaf": "loaves", "scarf": "scarves",
}  # fmt: skip
_UNCHANGED = {
    "sheep", "fish", "deer", "aircraft", "grass", "water", "sand", "snow", "sky", "sea", "food",
    "furniture", "scissors", "skis", "stairs", "clothes", "glasses", "clouds", "bedclothes",
    "vegetation", "terrain", "mud", "paper", "metal", "plastic", "cardboard", "wood", "moss",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class NameVariant:
    """Class names that mean the same classes.

    Attributes:
      title: name of the variant.
      names: synonyms of each class without background, then those of the distractors.
      order: int (classes,), class of each line of `names`; distractors follow.
      distractors: number of lines of classes that the benchmark does not have.
      of_image: True scores an image against the classes in it alone, read from its labels.
    """

    title: str
    names: Names
    order: tuple[int, ...]
    distractors: int = 0
    of_image: bool = False


def list_variants(
    names: Names, space: str, *, more: list[int] | None = None, seed: int = 0
) -> list[NameVariant]:
    """List the variants of a benchmark's names; the first is the names as given.

    Args:
      names: synonyms of each class without background.
      space: name of the benchmark; its other published word lists give synonyms.
      more: numbers of distractors; None for 50 and 200.
      seed: random seed of the order of classes and of the distractors.
    """
    given = tuple(range(len(names)))
    variants = [NameVariant("as given", names, given)]
    for title, other in (
        *((f"names of {name}", rows) for name, rows in _read_lists(names, space)),
        ("last synonym", [row[-1:] for row in names]),
        ("plurals", [[pluralise(name) for name in row] for row in names]),
        ("words reversed", [[" ".join(name.split()[::-1]) for name in row] for row in names]),
    ):
        if other != names:
            variants.append(NameVariant(title, other, given))
    rng = np.random.default_rng(seed)
    order = tuple(rng.permutation(len(names)).tolist())
    variants.append(NameVariant("classes shuffled", [names[i] for i in order], order))
    spare = _list_distractors(names)
    chosen = rng.permutation(len(spare))
    for count in [50, 200] if more is None else more:
        added = [[spare[i]] for i in chosen[:count]]
        variants.append(
            NameVariant(f"{len(added)} distractors", [*names, *added], given, len(added))
        )
    variants.append(NameVariant("classes of the image alone", names, given, of_image=True))
    return variants


def pluralise(name: str) -> str:
    """Return the plural of an English name: its last word in the plural, if it has one."""
    *head, last = name.split(" ")
    return " ".join((*head, _pluralise_word(last)))


def _pluralise_word(word: str) -> str:
    low = word.lower()
    if low in _UNCHANGED or not word.isalpha():
        return word
    if low in _IRREGULAR:
        return _IRREGULAR[low]
    if low.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if low.endswith("y") and low[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _read_lists(names: Names, space: str) -> list[tuple[str, Names]]:
    """Read the other word lists of a label space that have as many classes."""
    found = []
    for path in sorted(WORDS.glob(f"{space}*.txt")):
        if path.stem.split(".")[0] != space:
            continue
        rows = [list(row) for row in read_words(path, distinct=False)]
        rows = rows[len(rows) - len(names) :]  # without a line of the background
        if len(rows) == len(names):
            found.append((path.stem.partition(".")[2] or "the benchmark", rows))
    return found


def _list_distractors(names: Names) -> list[str]:
    """List ImageNet's names that share no word with the classes."""
    taken = {word for row in names for name in row for word in name.casefold().split()}
    firsts = sorted({row[0] for row in load_imagenet_words().values()})
    return [name for name in firsts if not taken & set(name.casefold().split())]
