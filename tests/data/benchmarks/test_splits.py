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


def test_context_is_found_by_name():
    split = splits.get_split("context")
    names = [row[0] for row in split.unseen_words]
    assert len(names) == 10 and {"cow", "sofa", "cat", "boat", "fence", "bird"} <= set(names)
    assert split.classes == 59
    shuffled = tuple(row[0] for row in reversed(split.seen_words + split.unseen_words))
    assert splits.find_unseen("usual", "context59", shuffled) == list(range(10))
    with pytest.raises(ValueError, match="no class is called 'cow'"):
        splits.find_unseen("usual", "context59", ("dog",))


def test_unseen_classes_are_usual_or_named():
    names = tuple(f"c{i}" for i in range(20))
    assert splits.find_unseen("usual", "voc20", names) == [15, 16, 17, 18, 19]
    assert splits.find_unseen("c3; c1", "folder", names) == [1, 3]
    assert splits.find_unseen("", "folder", names) == []
    with pytest.raises(ValueError, match="no usual split of 'folder'"):
        splits.find_unseen("usual", "folder", names)
    with pytest.raises(ValueError, match="'d3' is no class"):
        splits.find_unseen("d3", "folder", names)
