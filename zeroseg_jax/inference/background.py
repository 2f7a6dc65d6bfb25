"""Background of an image: a threshold, class names, or the stuff words of SCLIP ("auto")."""

from __future__ import annotations

from collections.abc import Sequence

from zeroseg_jax.inference.class_names import check_classes, to_classes

BACKGROUND = "background"
_STUFF = "voc21.sclip"  # word list whose first line names 26 kinds of stuff


def choose_background(
    background: float | str | Sequence[str | Sequence[str]] | None,
    classes: list[list[str]],
    preset_words: Sequence[str] = (),
    *,
    automatic: bool = False,
) -> tuple[float, list[list[str]]]:
    """Return the threshold and the class names of the background.

    Args:
      background: threshold in [0, 1]; class names; "auto": "background" and SCLIP's 26 kinds of
        stuff without those asked for; "none"; or None for the default.
      classes: names of each class asked for. If "background" is one, "auto" adds nothing.
      preset_words: class names by default.
      automatic: True makes "auto" the default.

    Returns:
      A threshold, 0 for none, and the names of each background class, possibly none.

    Raises:
      ValueError: a threshold out of range, or a class name that is wrong or given twice.
    """
    if background is None and automatic:
        background = "auto"
    if background == "none":
        return 0.0, []
    if background == "auto":
        asked = {name.casefold() for synonyms in classes for name in synonyms}
        if BACKGROUND in asked:
            return 0.0, []
        # Imported late: the data sets take a while, and few calls need them.
        from zeroseg_jax.data.benchmarks.word_lists import load_words

        stuff = (BACKGROUND, *load_words(_STUFF)[0])
        return 0.0, [[name] for name in stuff if name.casefold() not in asked]
    names = [[name] for name in preset_words]
    threshold = 0.0
    if isinstance(background, int | float) and not isinstance(background, bool):
        threshold = float(background)
    elif background is not None and not isinstance(background, bool | int | float):
        names = to_classes(background, "background")
    if not 0 <= threshold <= 1:
        raise ValueError(f"background: {background} is outside [0, 1].")
    if names:
        check_classes(classes + names, "words and background")
    return threshold, names
