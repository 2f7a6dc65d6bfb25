"""Region preparation: views of regions, and their overlap with hidden labels."""

import numpy as np
import pytest

from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.data.seen_labels import SeenLabels
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.region_labels import best_overlaps, region_threads, view_region


def test_a_large_region_is_masked_and_a_small_one_cropped():
    clip = load_teacher("playground")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    small, large = np.zeros((2, 12, 12), bool)
    small[2:5, 6:9], large[:, :3] = True, True
    views = {
        (name, kind): view_region(image, mask, kind, clip)
        for name, mask in (("small", small), ("large", large))
        for kind in ("masked", "cropped", "by_size")
    }
    assert (views["small", "by_size"] == views["small", "cropped"]).all()
    assert (views["large", "by_size"] == views["large", "masked"]).all()
    for name in ("small", "large"):
        assert (views[name, "masked"] != views[name, "cropped"]).any()
    # Outside the masked region is the teacher's mean colour.
    mean = np.rint(255 * np.array(clip.mean))
    assert (views["large", "masked"][:, clip.image_px // 2 :] == mean).all()


def test_a_cropped_view_is_the_square_around_the_region():
    clip = load_teacher("playground")
    image = np.zeros((96, 96, 3), np.uint8)
    image[16:40, 48:72] = 255  # the 3 x 3 cells of the mask
    mask = np.zeros((12, 12), bool)
    mask[2:5, 6:9] = True
    view = view_region(image, mask, "cropped", clip)
    assert view.shape == (clip.image_px, clip.image_px, 3) and view.dtype == np.uint8
    # The square is 1.25 times the region's side, so 24 of its 30 pixels are white each way.
    assert view[..., 0].mean() / 255 == pytest.approx((24 / 30) ** 2, abs=0.03)
    corner = view_region(image, np.pad(np.ones((2, 2), bool), (0, 10)), "cropped", clip)
    assert not corner.any()  # moved inside the image, without padding


def test_best_overlaps_by_hand():
    split = get_split("playground")
    seen, unseen = len(split.seen), split.unseen[0]
    truth = np.full((10, 10), split.seen[0], np.int16)
    truth[:5] = unseen
    fused = np.zeros((10, 10), np.int16)
    fused[:4], fused[4:6] = seen, seen + 1
    hidden = np.zeros(len(split.unseen), np.int64)
    labels = SeenLabels(labels=fused, hidden=hidden, truth=truth)
    # 40 of 50 pixels by the first region, 10 of 60 by the second.
    assert best_overlaps(fused, labels, split) == [0.8]
    assert best_overlaps(np.zeros_like(fused), labels, split) == [0.0]
    truth[:5], truth[0, 0] = split.seen[0], unseen  # a thing of one pixel in a hundred counts
    assert len(best_overlaps(fused, labels, split)) == 1
    truth[0, 0] = split.seen[0]
    assert best_overlaps(fused, labels, split) == []


def test_blas_has_one_thread_inside_the_pool_and_its_own_number_after():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        found = threadpoolctl.threadpool_info()
        return {pool["num_threads"] for pool in found if pool["user_api"] == "blas"}

    before = threads()
    with region_threads() as pool:
        assert pool.submit(threads).result() == {1}
    assert threads() == before
