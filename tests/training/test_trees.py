"""Names of leaves and rules over them."""

import pytest

from zeroseg_jax.training import trees


def test_first_match_rules():
    rules = (("^a/", 1), (".*", 2))
    assert trees.first_match(rules, "a/b") == 1 and trees.first_match(rules, "ba/") == 2
    with pytest.raises(KeyError, match="no rule for"):
        trees.first_match(rules[:1], "z")
