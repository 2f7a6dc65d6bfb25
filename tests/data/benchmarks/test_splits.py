"""Splits into seen and unseen classes."""

import pytest

from zeroseg_jax.data.benchmarks import splits


def test_splits():
    split = splits.get_split("playground")
    assert split.classes == 18 and len(split.seen) == 14
    assert [w[0] for w in split.unseen_words] == ["triangle", "cross", "arrow", "hourglass"]
    assert not set(split.seen) & set(split.unseen)
    assert splits.get_split("none").classes == 0
    with pytest.raises(ValueError, match="did you mean playground"):
        splits.get_split("playgruond")
    with pytest.raises(ValueError, match="cat, kitten would be seen and unseen at once"):
        splits.build_split("own", (("dog",), ("cat", "Kitten"), ("kitten", "Cat")), (2,))
    with pytest.raises(ValueError, match="class 7 is not one of 2"):
        splits.build_split("own", (("dog",), ("cat",)), (7,))
    sizes = {"voc": 5, "coco_stuff": 15}
    assert {name: len(splits.UNSEEN[name].ids) for name in sizes} == sizes
    assert all(unseen.source for unseen in splits.UNSEEN.values())
