"""Class names of a preset: the names and background names that a benchmark is evaluated with."""

from __future__ import annotations

import dataclasses
from typing import Any

from zeroseg_jax.data.benchmarks.word_lists import WORDS, read_words
from zeroseg_jax.inference.presets import Preset


def choose_class_names(preset: Preset, benchmark: Any) -> tuple[list[list[str]], Preset]:
    """Choose the class names of a benchmark under a preset.

    Args:
      preset: protocol; its `words_file` selects a published list, "" the benchmark's own.
      benchmark: any object with name, class_names, words and has_background.

    Returns:
      The synonyms of each class except background, and the completed preset. If the preset scores
      a class by its best name and has no background_words, it gets those of the file.

    Raises:
      ValueError: an unknown list, a list of the wrong length, a background without a rule, or a
        background rule without a background.
    """
    names = [list(synonyms) for synonyms in benchmark.words]
    if preset.words_file:
        space = benchmark.name.replace("/", "-")
        path = WORDS / f"{space}.{preset.words_file}.txt"
        if not path.is_file():
            found = sorted(p.name.split(".")[1] for p in WORDS.glob(f"{space}.*.txt"))
            known = f"known: {', '.join(found)}" if found else "there are no lists for it"
            raise ValueError(
                f"--preset: {preset.name} needs class names {preset.words_file!r} for "
                f"{benchmark.name} ({known}); use --set=words_file= for the benchmark's own."
            )
        # Published lists are used unchanged, including names that occur in two classes.
        rows = read_words(path, classes=len(benchmark.class_names), distinct=False)
        names = [list(synonyms) for synonyms in rows]
        if benchmark.has_background:
            first, *names = names
            # TCL and GroupViT skip the background line: their background is only a threshold.
            if preset.names == "best" and not preset.background_words:
                preset = dataclasses.replace(preset, background_words=tuple(first))
    _check_background(preset, benchmark)
    expected = len(benchmark.class_names) - int(benchmark.has_background)
    if len(names) != expected:
        raise ValueError(
            f"{benchmark.name}: {len(names)} lines of class names for {expected} classes; "
            "give one line per class."
        )
    return names, preset


def _check_background(preset: Preset, benchmark: Any) -> None:
    if benchmark.has_background and not preset.names_background:
        raise ValueError(
            f"--preset: {benchmark.name} has a background and {preset.name} has no rule for it; "
            "give --set=threshold=NUMBER or --set='background_words=sky;wall'."
        )
    if not benchmark.has_background and preset.names_background:
        raise ValueError(
            f"--set: {benchmark.name} has no background, so threshold and background_words would "
            "take pixels from its classes; remove them."
        )


def find_shared_names(names: list[list[str]]) -> list[str]:
    """Return the names that occur in two classes or twice in one, ignoring case."""
    seen: set[str] = set()
    shared = []
    for name in (name for synonyms in names for name in synonyms):
        key = name.casefold()
        if key in seen and name not in shared:
            shared.append(name)
        seen.add(key)
    return shared
