"""Class names as typed: parse and check "star, grass" and "star; ring, hoop; grass"."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

MAX_CLASSES = 1000
MAX_LETTERS = 200
_LINE_ENDS = re.compile(r"[\r\n]+")


def parse_classes(
    text: str, field: str = "--classes", *, limit: int = MAX_CLASSES, letters: int = MAX_LETTERS
) -> list[list[str]]:
    """Parse "star, ring/hoop, grass" or "star; ring, hoop; grass" into the names of each class.

    Each line holds further classes. Separators that are doubled or at an end are ignored.

    Args:
      text: ',' between classes and '/' between the names of one. If the text has a ';' anywhere,
        ';' between classes and ',' between the names of one.
      field: name of the field in messages.
      limit: maximum number of classes.
      letters: maximum number of letters of a name.

    Returns:
      Names of each class, without surrounding blanks.

    Raises:
      ValueError: no name, a duplicate, too many or too long ones.
    """
    if len(text) > limit * letters:
        raise ValueError(f"{field}: {len(text)} letters are more than {limit * letters}.")
    between, within = (";", ",") if ";" in text else (",", "/")
    parts = _LINE_ENDS.sub(between, text).split(between)
    split = [[name.strip() for name in part.split(within) if name.strip()] for part in parts]
    return check_classes([names for names in split if names], field, limit=limit, letters=letters)


def read_classes(text: str, field: str = "--words") -> list[list[str]]:
    """Parse class names, or "@FILE" with the same text.

    A file of several lines has a class a line, as the word lists of benchmarks do. ';', ',' or '/'
    separate the names of one class; lines that begin with '#' are left out.

    Raises:
      ValueError: see parse_classes; or a file that is missing or is not UTF-8 text.
    """
    if not text.startswith("@"):
        if text.endswith(".txt") and Path(text).is_file():
            raise ValueError(f"{field}: {text} is a file; write {field}=@{text}.")
        return parse_classes(text, field)
    path = Path(text[1:])
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{field}: {path}: {error.strerror}; give a text file.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{field}: {path} is not UTF-8 text; save it as UTF-8.") from error
    lines = [line.strip() for line in content.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) < 2:
        return parse_classes("".join(lines), field)
    split = [[name.strip() for name in re.split("[;,/]", line) if name.strip()] for line in lines]
    return check_classes([names for names in split if names], field)


def to_classes(
    class_names: str | Sequence[str | Sequence[str]], field: str = "classes"
) -> list[list[str]]:
    """Convert text, a list of names, or a list of lists of names into the names of each class.

    Raises:
      ValueError: see parse_classes; or a name that is not text.
    """
    if isinstance(class_names, str):
        return parse_classes(class_names, field)
    if not isinstance(class_names, Sequence):
        raise ValueError(f"{field}: {type(class_names).__name__} is not a list of class names.")
    classes = [[names] if isinstance(names, str) else names for names in class_names]
    if not all(_are_names(names) for names in classes):
        raise ValueError(f"{field}: each class name must be text, for example ['cat', 'grass'].")
    return check_classes([[name.strip() for name in names] for names in classes], field)


def _are_names(names: object) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)


def check_classes(
    classes: list[list[str]], field: str, *, limit: int = MAX_CLASSES, letters: int = MAX_LETTERS
) -> list[list[str]]:
    """Return `classes` unchanged if they are valid; see parse_classes."""
    if not classes:
        raise ValueError(f"{field}: no class name is given; write for example 'star, grass'.")
    if len(classes) > limit:
        raise ValueError(f"{field}: {len(classes)} classes are more than {limit}.")
    flat = [name for names in classes for name in names]
    if not all(names and all(names) for names in classes):
        raise ValueError(f"{field}: a class name is blank; remove it.")
    if longest := max((len(name) for name in flat if len(name) > letters), default=0):
        raise ValueError(f"{field}: a class name of {longest} letters is longer than {letters}.")
    if any(unicodedata.category(letter)[0] == "C" for name in flat for letter in name):
        raise ValueError(f"{field}: a class name holds a control character; type it again.")
    seen: dict[str, str] = {}
    for name in flat:
        before = seen.setdefault(name.casefold(), name)
        if before != name:
            raise ValueError(
                f"{field}: {before} and {name} differ in case only, which CLIP does not read; give "
                "one of them."
            )
    twice = {name for name, count in collections.Counter(flat).items() if count > 1}
    if twice:
        raise ValueError(
            f"{field}: {', '.join(sorted(twice)[:5])} is given twice; give each class name once."
        )
    return classes
