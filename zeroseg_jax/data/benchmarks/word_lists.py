"""Word lists: the names of the classes of a label space, one text file each.

Line i names class i, synonyms separated by semicolons.
"""

from __future__ import annotations

from pathlib import Path

WORDS = Path(__file__).parent / "words"
IMAGENET = "imagenet1k"
_MAX_CLASSES = 65_535
_MAX_LETTERS = 200

Rows = tuple[tuple[str, ...], ...]


def load_words(name: str) -> Rows:
    """Load a shipped word list.

    Args:
      name: label space ("voc21"), or its variant of a family of papers ("voc21.sclip").
        docs/benchmarks.md lists all with their sources.

    Returns:
      Synonyms of each class, in the order of ids. If id 0 is a background, row 0 has the names
      that describe it.

    Raises:
      ValueError: there is no such word list.
    """
    path = WORDS / f"{name}.txt"
    if name == IMAGENET or not path.is_file():
        known = sorted(p.stem for p in WORDS.glob("*.txt") if p.stem != IMAGENET)
        raise ValueError(f"word list: {name!r} is not known; known: {', '.join(known)}.")
    # Published lists stay as published: SCLIP's background has "bed", a class of COCO.
    return read_words(path, distinct=False)


def load_imagenet_words() -> dict[str, tuple[str, ...]]:
    """Load the names of the 1,000 ImageNet classes, by WordNet id."""
    return {row[0]: row[1:] for row in read_words(WORDS / f"{IMAGENET}.txt")}


def read_words(path: str | Path, *, classes: int = 0, distinct: bool = True) -> Rows:
    """Read a word list.

    Args:
      path: text file in UTF-8.
      classes: required number of lines; 0 for any.
      distinct: True refuses a name that occurs twice.

    Raises:
      ValueError: the file is missing, has a blank line or name, a name twice, or another number
        of lines than `classes`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: missing; write one class a line, in the order of ids.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    rows = tuple(_split(line, f"{path} line {i}") for i, line in enumerate(lines, 1))
    if not rows:
        raise ValueError(f"{path}: the file is empty; write one class a line, in the order of ids.")
    if len(rows) > _MAX_CLASSES:
        raise ValueError(f"{path}: {len(rows)} classes are more than {_MAX_CLASSES}; use fewer.")
    if classes and len(rows) != classes:
        raise ValueError(
            f"{path}: {len(rows)} lines, but there are {classes} classes; "
            "write one class a line, in the order of ids."
        )
    if distinct:
        _check_distinct(rows, path)
    return rows


def _split(line: str, where: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in line.split(";"))
    if not all(words):
        what = "a blank name" if any(words) else "a blank line"
        raise ValueError(f"{where}: {what}; give each class a name, and synonyms after '; '.")
    longest = max(words, key=len)
    if len(longest) > _MAX_LETTERS:
        raise ValueError(
            f"{where}: a name of {len(longest)} letters is over the limit of {_MAX_LETTERS}; "
            "shorten it."
        )
    return words


def _check_distinct(rows: Rows, path: Path) -> None:
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        for word in row:
            before = seen.setdefault(word.casefold(), number)
            if before != number or row.count(word) > 1:
                raise ValueError(
                    f"{path}: {word!r} is in line {before} and in line {number}; "
                    "give each class its own names."
                )
