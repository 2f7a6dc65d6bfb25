"""Prompt templates: their number, their placeholder, and no template twice."""

import pytest

from zeroseg_jax.teacher.prompts import PROMPTS

COUNTS = {"imagenet": 80, "subset": 7, "simple": 1, "tcl": 9, "playground": 4}


def test_the_sets_have_their_published_sizes():
    assert {name: len(templates) for name, templates in PROMPTS.items()} == COUNTS
    assert set(PROMPTS["subset"]) <= set(PROMPTS["imagenet"])


@pytest.mark.parametrize("name", PROMPTS)
def test_every_template_takes_one_name_and_is_there_once(name):
    assert all(template.count("{}") == 1 for template in PROMPTS[name])
    assert len(set(PROMPTS[name])) == len(PROMPTS[name])
