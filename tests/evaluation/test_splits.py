"""Splits of seen and unseen classes."""

import pytest

from zeroseg_jax.evaluation import splits


def test_unseen_classes_are_usual_or_named():
    names = tuple(f"c{i}" for i in range(20))
    assert splits.find_unseen("usual", "voc20", names) == [15, 16, 17, 18, 19]
    assert splits.find_unseen("c3; c1", "folder", names) == [1, 3]
    assert splits.find_unseen("", "folder", names) == []
    with pytest.raises(ValueError, match="no usual split of 'folder'"):
        splits.find_unseen("usual", "folder", names)
    with pytest.raises(ValueError, match="'d3' is no class"):
        splits.find_unseen("d3", "folder", names)
