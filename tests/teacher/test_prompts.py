"""Prompt templates: checksums of the public lists, their number and their placeholder."""

import hashlib

import pytest

from zeroseg_jax.teacher.prompts import PROMPTS

COUNTS = {
    "imagenet": 80,
    "subset": 7,
    "simple": 1,
    "tcl": 9,
    "maskclip": 85,
    "zegclip": 15,
    "zegclip_single": 1,
    "playground": 4,
}

# SHA-256 of the sorted templates, one a line: CLIP's notebook Prompt_Engineering_for_ImageNet and
# NACLIP's imagenet_template.py (imagenet), TCL's datasets/templates.py (the other three).
PUBLIC = {
    "imagenet": "a8a4822f2921936e2ef07cf2e7a5df69be9532aab2f3f4880156bb03563e2467",
    "subset": "5ab66086a57fc15d5a7ca26e2821583d0ba4ce68912ff58be79e8cc3953f6beb",
    "simple": "e8e367e769f86c27d7507382b76c671667da9fa8ae030159a57681a812b0fa33",
    # ZegCLIP's get_embedding.ipynb, MaskCLIP's prompt_engineering.py
    "zegclip": "3f786da62bec94969e8ebae5105b5826d15faf94b8ab9fde92274f2340aa948c",
    "zegclip_single": "a49db5fdb0eb48888b22addd1e83eb8336e2f5dd2a5f47e7fba06eccef851a98",
    "maskclip": "27f50cc441bab964f09953ebe73ef43333ded861c12cd212b438227a7b9daebc",
    "tcl": "f51fc5d4ca7369171458b8c38f97eef48c0ee4453a31fa7881d5416e0ea3e256",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_sets_equal_the_public_lists(name):
    text = "\n".join(sorted(PROMPTS[name]))
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLIC[name]


def test_the_sets_have_their_published_sizes():
    assert {name: len(templates) for name, templates in PROMPTS.items()} == COUNTS
    assert set(PROMPTS["subset"]) <= set(PROMPTS["imagenet"])


@pytest.mark.parametrize("name", PROMPTS)
def test_every_template_takes_one_name_and_is_there_once(name):
    assert all(template.count("{}") == 1 for template in PROMPTS[name])
    assert len(set(PROMPTS[name])) == len(PROMPTS[name])
