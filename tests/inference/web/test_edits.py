"""Corrections of regions, against masks drawn by hand."""

import numpy as np
import pytest

from zeroseg_jax.inference.segmentation import Segmentation
from zeroseg_jax.inference.web.edits import Edit, apply_edits, read_edits


@pytest.fixture
def result():
    """Two cats that do not touch (corners count not), on grass."""
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]], np.uint8)
    return Segmentation(
        np.zeros((4, 4, 3), np.uint8), mask, np.full((4, 4), 0.5, np.float32),
        np.zeros((4, 4), np.uint16), ("cat", "grass"), "model",
    )  # fmt: skip


def test_only_the_region_at_the_point_changes(result):
    edited = apply_edits(result, [Edit(0.9, 0.9, "dog")])
    assert edited.class_names == ("cat", "grass", "dog")
    want = result.mask.copy()
    want[2:, 2:] = 2
    np.testing.assert_array_equal(edited.mask, want)
    np.testing.assert_array_equal(edited.scores, np.where(want == 2, 1, 0.5))
    assert result.mask.max() == 1  # untouched


def test_a_dropped_region_is_background_and_later_edits_see_it(result):
    edited = apply_edits(result, [Edit(0, 0, ""), Edit(0.9, 0, ""), Edit(0.3, 0.3, "sky")])
    assert edited.class_names == ("background", "cat", "grass", "sky")
    want = np.array([[3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 1, 1], [2, 2, 1, 1]])
    np.testing.assert_array_equal(edited.mask, want)


def test_an_old_name_is_used_again(result):
    edited = apply_edits(result, [Edit(0, 0, "grass")])
    assert edited.class_names == ("cat", "grass")
    assert (edited.mask == 1).sum() == 12


def test_no_edits_change_nothing(result):
    assert apply_edits(result, read_edits([], letters=60)) is result
