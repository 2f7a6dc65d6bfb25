"""Which words a protocol asks a benchmark with, and words files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from zeroseg_jax.evaluation.presets import Preset

WORDS = Path(__file__).parent.parent / "benchmarks" / "words"


def read_words(path: str | Path, classes: int = 0) -> list[list[str]]:
    """Read a file with one class a line, in the order of ids, synonyms after ";".

    Args:
      path: UTF-8 text.
      classes: how many lines there must be; 0: any number.

    Raises:
      ValueError: missing, not text, empty, a blank line or word, or another number of lines;
        names the file, the line and the value.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; write one class a line, in id order.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it so.") from error
    if not lines:
        raise ValueError(f"{path}: the file is empty; write one class a line, in id order.")
    words = [[word.strip() for word in line.split(";")] for line in lines]
    for number, names in enumerate(words, 1):
        if not all(names):
            raise ValueError(
                f"{path}: line {number} has a blank word; every line is one class, with synonyms "
                "after '; '."
            )
    if classes and len(words) != classes:
        raise ValueError(f"{path}: {len(words)} lines, but there are {classes} classes.")
    return words


def choose_words(preset: Preset, benchmark: Any) -> tuple[list[list[str]], Preset]:
    """Return the words a benchmark is asked with under a preset, and the preset completed.

    Args:
      preset: names a variant of the words, or "" for the benchmark's own.
      benchmark: name, class_names, words, has_background.

    Returns:
      The synonyms of each class but background; and the preset, with the background's line of
      the file as its background_words where it scores pixels and names none itself.

    Raises:
      ValueError: no such file, a wrong number of lines, a background rule without a background
        or a background without a rule, or words that do not fit the classes.
    """
    words = [list(names) for names in benchmark.words]
    if preset.words_file:
        space = benchmark.name.replace("/", "-")
        path = WORDS / f"{space}.{preset.words_file}.txt"
        if not path.is_file():
            found = sorted(p.name.split(".")[1] for p in WORDS.glob(f"{space}.*.txt"))
            known = f"there are {', '.join(found)}" if found else "there is none"
            raise ValueError(
                f"--preset: {preset.name} asks {benchmark.name} with words {preset.words_file!r}, "
                f"but {known}; --set=words_file= takes the benchmark's own."
            )
        words = read_words(path, len(benchmark.class_names))
        if benchmark.has_background:
            first, *words = words
            if preset.naming == "pixels" and not preset.background_words:
                preset = dataclasses.replace(preset, background_words=tuple(first))
    _check_background(preset, benchmark)
    expected = len(benchmark.class_names) - int(benchmark.has_background)
    if len(words) != expected:
        raise ValueError(f"{benchmark.name}: {len(words)} lines of words for {expected} classes.")
    return words, preset


def _check_background(preset: Preset, benchmark: Any) -> None:
    if benchmark.has_background and not preset.names_background:
        raise ValueError(
            f"--preset: {benchmark.name} has a background, and {preset.name} says of it nothing "
            "that would find it; give --set=threshold=NUMBER or --set='background_words=sky;wall'."
        )
    if not benchmark.has_background and preset.names_background:
        raise ValueError(
            f"--set: {benchmark.name} has no background, so threshold and background_words would "
            "take pixels from its classes; leave them away."
        )


def find_shared_words(words: list[list[str]]) -> list[str]:
    """List words that stand under two classes, or twice under one, whatever their case."""
    seen: set[str] = set()
    shared = []
    for word in (name for names in words for name in names):
        key = word.casefold()
        if key in seen and word not in shared:
            shared.append(word)
        seen.add(key)
    return shared


def check_distinct(words: list[list[str]], source: str) -> None:
    """Refuse a word that stands under two classes.

    Raises:
      ValueError: names the source and the words.
    """
    shared = find_shared_words(words)
    if shared:
        raise ValueError(
            f"{source}: {', '.join(map(repr, shared[:5]))} stands under two classes, so no pixel "
            "can tell which; name each word once."
        )
