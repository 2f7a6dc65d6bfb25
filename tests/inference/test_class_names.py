"""Class names as people type them."""

import pytest

from zeroseg_jax.inference.class_names import parse_classes


def test_words():
    assert parse_classes("star; ring, hoop ;grass") == [["star"], ["ring", "hoop"], ["grass"]]
    for text, reason in (("", "no class name"), ("a;;b", "blank"), ("a; a", "given twice")):
        with pytest.raises(ValueError, match=reason):
            parse_classes(text)
    with pytest.raises(ValueError, match="1001 classes are more than 1000"):
        parse_classes(";".join(f"w{i}" for i in range(1001)))
