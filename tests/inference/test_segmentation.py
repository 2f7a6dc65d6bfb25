"""Result of segmenting an image: what was found."""

import numpy as np
import pytest

from zeroseg_jax.inference.segmentation import NOTHING_FOUND, Segmentation


def build(mask, names=("background", "dog")):
    mask = np.asarray(mask, np.uint8)
    image = np.zeros((*mask.shape, 3), np.uint8)
    return Segmentation(image, mask, np.ones(mask.shape, np.float32), mask, names, "m")


@pytest.mark.parametrize(("pixels", "found"), [(0, False), (1, False), (2, True), (500, True)])
def test_less_than_a_five_hundredth_of_the_image_is_not_found(pixels, found):
    mask = np.zeros(1000)
    mask[:pixels] = 1
    result = build(mask.reshape(20, 50))
    assert result.found == found == result.to_record()["found"]
    assert (NOTHING_FOUND in repr(result)) != found
    # Without a background every pixel is one of the words.
    assert build(mask.reshape(20, 50), ("cat", "dog")).found
