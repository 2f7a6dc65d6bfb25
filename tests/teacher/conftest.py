"""Tensors of a small random CLIP, in Hugging Face's names."""

import pytest
from small_clips import random_tensors


@pytest.fixture(scope="session")
def tensors():
    return random_tensors()
