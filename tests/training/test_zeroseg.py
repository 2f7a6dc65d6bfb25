"""ZeroSeg as an objective: warnings of collapse."""

import dataclasses

import pytest

from tests.training.tiny import QUIET
from zeroseg_jax.config import Config
from zeroseg_jax.training import zeroseg
from zeroseg_jax.training.loop import train

ALIKE = {"segments_used": 1.1, "distinct_matches": 1.2, "segment_cosine": 0.998}
APART = {"segments_used": 3.5, "distinct_matches": 2.5, "segment_cosine": 0.9}


def replace(config, **head_or_loss):
    head = {key: value for key, value in head_or_loss.items() if hasattr(config.model.head, key)}
    loss = {key: value for key, value in head_or_loss.items() if key not in head}
    model = dataclasses.replace(config.model, head=dataclasses.replace(config.model.head, **head))
    return dataclasses.replace(config, model=model, loss=dataclasses.replace(config.loss, **loss))


def test_a_collapse_is_described_with_its_remedy():
    config = Config()
    found = zeroseg.describe_collapse(ALIKE, config)
    assert "1.1 of 8 in use" in found and "1.2 different matches" in found and "0.998" in found
    assert "model.head.scores=standardised" in found and "loss.matching_mode=located" in found
    assert zeroseg.describe_collapse(APART, config) == ""
    # Each remedy is named for its own cause, and not where it is in use.
    found = zeroseg.describe_collapse({**APART, "distinct_matches": 1.2}, config)
    assert "scores" not in found and "located" in found
    found = zeroseg.describe_collapse(ALIKE, replace(config, scores="centred"))
    assert "scores" not in found
    both = replace(config, scores="standardised", matching_mode="located")
    assert "a lower optim.base_rate" in zeroseg.describe_collapse(ALIKE, both)


def test_without_matching_or_with_one_segment_there_is_less_to_describe():
    matches = {**APART, "distinct_matches": 1.0}
    assert zeroseg.describe_collapse(matches, replace(Config(), matching=0.0)) == ""
    assert zeroseg.describe_collapse(ALIKE, replace(Config(), segment_tokens=(32, 1))) == ""


@pytest.mark.slow
def test_a_collapsing_run_warns_once(tmp_path, configure, clip):
    lines = []
    options = dataclasses.replace(QUIET, log=lines.append)
    config = configure(run={"log_every_steps": 2, "checkpoint_every_steps": 100}, steps=24)
    train(replace(config, cell=0.0), tmp_path, teacher=clip, options=options)
    warnings = [line for line in lines if "warning" in line]
    assert len(warnings) == 1 and "segments have collapsed" in warnings[0]
    assert warnings[0].startswith("train: warning at step 20")
    assert any(" cosine " in line for line in lines)
