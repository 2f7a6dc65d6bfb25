"""Result of segmenting an image: what was found."""

import io

import numpy as np
import pytest
from PIL import Image

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


def test_a_notebook_shows_the_overlay_at_a_size_that_fits():
    result = build(np.ones((300, 2100)))
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.format == "PNG" and max(shown.size) == 1024
    assert result.to_pil().size[0] >= 2100
    small = build(np.ones((30, 40)))
    assert Image.open(io.BytesIO(small._repr_png_())).size == small.overlay().size


def test_the_background_is_not_painted():
    mask = np.zeros((60, 250))
    mask[:, 200:] = 1
    overlay = np.asarray(build(mask).overlay())
    assert (overlay[:60, :190] == 0).all() and (overlay[:60, 210:] > 0).any(axis=-1).all()
    other = build(mask, ("cat", "dog"))  # no background: both classes are painted
    assert (np.asarray(other.overlay())[:60, :190] > 0).any(axis=-1).all()
    # Its swatch in the legend is white; the mask and the JSON file keep its colour.
    assert build(mask).classes[0]["colour"] == "#000000"
    legend = overlay[60:].reshape(-1, 3)
    assert not (legend == 0).all(axis=-1).any()
