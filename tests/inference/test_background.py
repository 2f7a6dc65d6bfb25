"""Background of an image: "auto", "none", words, thresholds."""

import pytest

from zeroseg_jax.inference.background import choose_background

CLASSES = [["dog"], ["River", "stream"], ["GRASS"]]


def test_automatic_words_leave_out_what_is_asked_for():
    threshold, names = choose_background(None, CLASSES, automatic=True)
    assert (threshold, names) == choose_background("auto", CLASSES)
    words = [word for (word,) in names]
    assert threshold == 0 and words[:3] == ["background", "sky", "wall"] and len(words) == 25
    assert not {"river", "grass"} & set(words)
    assert choose_background("auto", [["dog"], ["Background"]]) == (0, [])


def test_none_words_and_thresholds():
    assert choose_background("none", CLASSES, ("sky",), automatic=True) == (0, [])
    assert choose_background(None, CLASSES) == (0, [])
    assert choose_background(None, CLASSES, ("sky",)) == (0, [["sky"]])
    assert choose_background(0.4, CLASSES, automatic=True) == (0.4, [])
    assert choose_background("sky, wall/fence", CLASSES) == (0, [["sky"], ["wall", "fence"]])
    with pytest.raises(ValueError, match="dog is given twice"):
        choose_background(["dog"], CLASSES)
    with pytest.raises(ValueError, match="outside"):
        choose_background(-1, CLASSES)
