"""Names of leaves and rules over them."""

import numpy as np
import pytest

from zeroseg_jax.training import trees


def test_first_match_rules():
    rules = (("^a/", 1), (".*", 2))
    assert trees.first_match(rules, "a/b") == 1 and trees.first_match(rules, "ba/") == 2
    with pytest.raises(KeyError, match="no rule for"):
        trees.first_match(rules[:1], "z")


def test_leaves_are_replaced_by_name():
    tree = {"a": {"b": np.zeros(2), "c": np.ones(1)}, "d": np.ones(3)}
    found = trees.replace(tree, {"a/b": np.full(2, 5.0)})
    np.testing.assert_array_equal(found["a"]["b"], 5)
    assert found["a"]["c"] is tree["a"]["c"] and found["d"] is tree["d"]
    with pytest.raises(KeyError, match="no leaves a/x, b"):
        trees.replace(tree, {"a/x": 1, "b": 2, "d": 3})
