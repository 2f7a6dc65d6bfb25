"""Small components against SciPy's labelling of each class."""

import numpy as np
from scipy import ndimage

from zeroseg_jax.inference import components


def count_small(labels, least_px):
    sizes = [np.bincount(ndimage.label(labels == k)[0].ravel())[1:] for k in np.unique(labels)]
    return int((np.concatenate(sizes) < least_px).sum())


def test_small_components_join_what_surrounds_them():
    labels = np.zeros((40, 50), np.int32)
    labels[:, 25:] = 1
    labels[5:7, 5:7] = 1  # inside 0
    labels[20:23, 40:43] = 2  # inside 1
    labels[21, 41] = 0  # inside the crumb
    labels[30:38, 2:12] = 2  # large enough
    joined = components.join_small(labels, 20)
    expected = np.zeros((40, 50), np.int32)
    expected[:, 25:] = 1
    expected[30:38, 2:12] = 2
    np.testing.assert_array_equal(joined, expected)
    assert components.join_small(np.full((3, 3), 4), 100).tolist() == [[4] * 3] * 3


def test_noise_leaves_no_small_component_and_large_ones_keep_their_pixels():
    rng = np.random.default_rng(0)
    for shape in ((60, 90), (1, 200), (90, 7)):
        smooth = ndimage.gaussian_filter(rng.standard_normal((*shape, 4)), (2, 2, 0))
        labels = smooth.argmax(-1) * 3 - 2  # negative labels and gaps are labels too
        labels[rng.random(shape) < 0.1] = 50
        before = labels.copy()
        assert count_small(labels, 25) > 5
        joined = components.join_small(labels, 25)
        assert count_small(joined, 25) == 0
        np.testing.assert_array_equal(labels, before)
        for k in np.unique(labels):
            found, number = ndimage.label(labels == k)
            sizes = np.bincount(found.ravel())
            for part in range(1, number + 1):
                if sizes[part] >= 25:
                    assert (joined[found == part] == k).all()


def test_the_longest_border_wins():
    labels = np.zeros((10, 12), np.int32)
    labels[:, 6:] = 1
    labels[4:6, 5:8] = 2  # touches 0 along 4 pixels and 1 along 6
    joined = components.join_small(labels, 10)
    assert joined[4, 5] == 1 and (joined[:, :5] == 0).all()


def test_all_small():
    assert (components.join_small(np.array([[3, 3, 7]]), 100) == 3).all()
