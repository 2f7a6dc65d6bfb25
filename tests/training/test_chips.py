"""Topologies and their chips."""

from pathlib import Path

import pytest

from zeroseg_jax.training.plan.chips import CHIPS, parse_topology

ROOT = Path(__file__).parent.parent.parent


def test_topologies():
    assert parse_topology("v5e:16x16") == (CHIPS["v5e"], 256)
    assert parse_topology("tpu7x:4x4x4") == (CHIPS["tpu7x"], 64)
    for bad, sentence in (("v9:2x2", "names no known chip"), ("v5e:2x2x2", "does not have 2 sides"),
                          ("v5p:4xx4", "does not have 3 sides"), ("v6e", "2 sides")):  # fmt: skip
        with pytest.raises(ValueError, match=f"--topology: '{bad}' {sentence}|{sentence}"):
            parse_topology(bad)
