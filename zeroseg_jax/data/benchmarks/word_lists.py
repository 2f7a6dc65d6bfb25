"""Words of classes, one text file per label space: a class a line, in the order of ids."""

from __future__ import annotations

from pathlib import Path

WORDS = Path(__file__).parent / "words"
IMAGENET = "imagenet1k"
_MAX_CLASSES = 65_535
_MAX_LETTERS = 200

Rows = tuple[tuple[str, ...], ...]


def load_words(name: str) -> Rows:
    """Load a shipped words file.

    Args:
      name: of a label space ("voc21"), or of one as a family of papers words it
        ("voc21.sclip"). docs/benchmarks.md lists them all with their sources.

    Returns:
      One tuple of synonyms a class, in the order of ids; where id 0 is a background, row 0
      holds the words that stand for it.

    Raises:
      ValueError: no such file.
    """
    path = WORDS / f"{name}.txt"
    if name == IMAGENET or not path.is_file():
        known = sorted(p.stem for p in WORDS.glob("*.txt") if p.stem != IMAGENET)
        raise ValueError(f"words: {name!r} is not known; known: {', '.join(known)}.")
    # Published lists are used as published: SCLIP's background words share "bed" with COCO.
    return read_words(path, distinct=False)


def load_imagenet_words() -> dict[str, tuple[str, ...]]:
    """Load names of the 1,000 ImageNet classes, by WordNet id."""
    return {row[0]: row[1:] for row in read_words(WORDS / f"{IMAGENET}.txt")}


def read_words(path: str | Path, *, classes: int = 0, distinct: bool = True) -> Rows:
    """Read a file with one class a line and its synonyms after semicolons.

    Args:
      path: a UTF-8 text file.
      classes: how many lines there must be; 0 for any number.
      distinct: whether a word may stand under one class only.

    Raises:
      ValueError: no such file, a blank line or word, a word that stands twice, too many
        classes, or another number than `classes`; names the file, the line and the word.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; write one class a line, in id order.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as such.") from None
    rows = tuple(_split(line, f"{path} line {i}") for i, line in enumerate(lines, 1))
    if not rows:
        raise ValueError(f"{path}: the file is empty; write one class a line, in id order.")
    if len(rows) > _MAX_CLASSES:
        raise ValueError(f"{path}: {len(rows)} classes are more than {_MAX_CLASSES}.")
    if classes and len(rows) != classes:
        raise ValueError(
            f"{path}: {len(rows)} lines, but there are {classes} classes; "
            "write one class a line, in id order."
        )
    if distinct:
        _check_distinct(rows, path)
    return rows


def _split(line: str, where: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in line.split(";"))
    if not all(words):
        what = "a blank word" if any(words) else "a blank line"
        raise ValueError(f"{where}: {what}; give each class a word, with synonyms after '; '.")
    longest = max(words, key=len)
    if len(longest) > _MAX_LETTERS:
        raise ValueError(
            f"{where}: a word of {len(longest)} letters is over the limit of {_MAX_LETTERS}."
        )
    return words


def _check_distinct(rows: Rows, path: Path) -> None:
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        for word in row:
            before = seen.setdefault(word.casefold(), number)
            if before != number or row.count(word) > 1:
                raise ValueError(
                    f"{path}: {word!r} stands in line {before} and in line {number}; "
                    "a word can name one class only."
                )
