"""View encoding: one device against all devices."""

import jax
import numpy as np

from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.views import build_encoder


def test_views_split_over_devices_are_the_same_features():
    clip = load_teacher("playground")
    rng = np.random.default_rng(0)
    one, all_of_them = build_encoder(clip), build_encoder(clip, jax.local_devices())
    assert jax.local_device_count() == 8
    for images, devices in ((4, 4), (8, 8), (3, 1)):
        views = rng.integers(0, 256, (images, 5, 48, 48, 3), dtype=np.uint8)
        found = all_of_them(views)
        assert len(found.sharding.device_set) == devices
        # Products of other shapes are summed in another order.
        np.testing.assert_allclose(found, one(views), rtol=1e-5, atol=1e-5)
