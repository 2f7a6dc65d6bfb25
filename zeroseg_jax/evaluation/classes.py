"""Which words a protocol asks a benchmark with."""

from __future__ import annotations

import dataclasses
from typing import Any

from zeroseg_jax.data.benchmarks.word_lists import WORDS, read_words
from zeroseg_jax.inference.presets import Preset


def choose_words(preset: Preset, benchmark: Any) -> tuple[list[list[str]], Preset]:
    """Return the words a benchmark is asked with under a preset, and the preset completed.

    Args:
      preset: names a variant of the words, or "" for the benchmark's own.
      benchmark: name, class_names, words, has_background.

    Returns:
      The synonyms of each class but background; and the preset, with the background's line of
      the file as its background_words where classes go by their best name and it has none itself.

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
        # Published lists are used as published, with words that stand under two classes.
        rows = read_words(path, classes=len(benchmark.class_names), distinct=False)
        words = [list(names) for names in rows]
        if benchmark.has_background:
            first, *words = words
            # TCL and GroupViT leave the line away: their background is a threshold alone.
            if preset.names == "best" and not preset.background_words:
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
