"""Words as people type them: "star; ring, hoop; grass" to the names of each class."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

MAX_CLASSES = 1000
MAX_LETTERS = 200


def parse_classes(
    text: str, field: str = "--classes", *, limit: int = MAX_CLASSES, letters: int = MAX_LETTERS
) -> list[list[str]]:
    """Parse "star; ring, hoop; grass" into synonyms of each class.

    Args:
      text: ';' between classes, ',' between the names of one.
      field: what to call it in messages.
      limit: the most classes.
      letters: the most letters of a name.

    Returns:
      For each class its names, blanks around them taken off.

    Raises:
      ValueError: no word, a blank one, one that stands twice, too many or too long.
    """
    if len(text) > limit * letters:
        raise ValueError(f"{field}: {len(text)} letters are more than {limit * letters}.")
    if not text.strip():
        raise ValueError(f"{field}: no word is given, all is blank; write 'star; grass'.")
    words = [[word.strip() for word in part.split(",")] for part in text.split(";")]
    return check_classes(words, field, limit=limit, letters=letters)


def to_classes(words: str | Sequence[str | Sequence[str]], field: str = "words") -> list[list[str]]:
    """Take words as text, as a list of names, or as a list of lists of synonyms.

    Raises:
      ValueError: see parse_classes; or something that is not a word.
    """
    if isinstance(words, str):
        return parse_classes(words, field)
    if not isinstance(words, Sequence):
        raise ValueError(f"{field}: {type(words).__name__} is no list of words.")
    classes = [[names] if isinstance(names, str) else names for names in words]
    if not all(_are_names(names) for names in classes):
        raise ValueError(f"{field}: each word must be text, for example ['cat', 'grass'].")
    return check_classes([[name.strip() for name in names] for names in classes], field)


def _are_names(names: object) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)


def check_classes(
    words: list[list[str]], field: str, *, limit: int = MAX_CLASSES, letters: int = MAX_LETTERS
) -> list[list[str]]:
    """Return `words` if they can be asked for; see parse_classes."""
    if not words:
        raise ValueError(f"{field}: no word is given; name at least one.")
    if len(words) > limit:
        raise ValueError(f"{field}: {len(words)} classes are more than {limit}.")
    flat = [name for names in words for name in names]
    if not all(names and all(names) for names in words):
        raise ValueError(f"{field}: one of the words is blank; write for example 'star; grass'.")
    if longest := max((len(name) for name in flat if len(name) > letters), default=0):
        raise ValueError(f"{field}: a word of {longest} letters is longer than {letters}.")
    if any(unicodedata.category(letter)[0] == "C" for name in flat for letter in name):
        raise ValueError(f"{field}: a word holds a control character; type it anew.")
    seen, twice = set(), set()
    for name in flat:
        (twice if name in seen else seen).add(name)
    if twice:
        raise ValueError(
            f"{field}: {', '.join(sorted(twice)[:5])} stands twice; name each word once."
        )
    return words
