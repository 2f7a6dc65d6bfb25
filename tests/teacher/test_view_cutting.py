"""Views cut on the device against Pillow's, over sizes, grids and shapes."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank, transforms
from zeroseg_jax.data.playground.scenes import build_scene, render
from zeroseg_jax.data.views import grid_windows
from zeroseg_jax.teacher import view_cutting
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher


def cut_on_device(images, windows, size_px):
    """The path of build_square_encoder, on one device."""
    squares = [transforms.square_for_views(image, windows, size_px) for image in images]
    stacked = view_cutting.stack_squares(squares, windows, size_px, len(squares) + 1)
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("views",))
    return np.asarray(view_cutting.cut_on(windows, size_px, mesh)(*stacked))[:-1]


def photo(rng, height, width):
    """A scene with sharp edges and grain: both overshoot under a bicubic filter."""
    scene, _ = render(build_scene(0, int(rng.integers(100))), max(height, width))
    grain = rng.normal(0, 40, (height, width, 3))
    return np.clip(scene[:height, :width] + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size_px", "grids", "overlap", "shapes"),
    [
        # Views of 32 px from squares that are enlarged, cut unevenly, and reduced first.
        (32, (1, 2, 3, 4), False, [(20, 31), (32, 32), (67, 90), (129, 127), (400, 300)]),
        (24, (1, 3, 5), False, [(119, 120), (61, 61), (25, 200)]),
        (32, (1, 2, 3), True, [(97, 101), (50, 50)]),
        (224, (1, 4), False, [(375, 500)]),
    ],
)
def test_views_are_pillow_s_bit_for_bit(size_px, grids, overlap, shapes):
    rng = np.random.default_rng(0)
    windows = grid_windows(grids, overlap)
    images = [photo(rng, *shape) for shape in shapes]
    images.append(np.repeat(rng.integers(0, 2, (*shapes[0], 1), np.uint8) * 255, 3, axis=2))
    found = cut_on_device(images, windows, size_px)
    wanted = np.stack([transforms.cut_views(image, windows, size_px) for image in images])
    np.testing.assert_array_equal(found, wanted)


def test_auto_cuts_on_accelerators_where_the_grids_allow_it():
    assert view_cutting.choose_cut("auto", (1, 2, 3, 4), "tpu")
    assert not view_cutting.choose_cut("auto", (1, 2, 3, 4), "cpu")
    assert not view_cutting.choose_cut("auto", (1, 6), "gpu")
    assert view_cutting.choose_cut("device", (1, 2), "cpu")
    with pytest.raises(ValueError, match="teacher.cut: device takes grids up to 5"):
        from_mapping({"teacher": {"grids": (1, 6), "cut": "device"}})


def test_a_bank_cut_on_the_device_is_that_of_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "SHARD_IMAGES", 8)
    config = from_mapping(
        {"model": {"image_px": 48, "encoder": {"patch_px": 8}},
         "teacher": {"grids": (1, 2, 3), "cut": "host"}, "data": {"images": 13}}
    )  # fmt: skip
    clip = load_teacher("playground")
    banks = {}
    for cut in ("host", "device"):
        teacher = dataclasses.replace(config.teacher, cut=cut)
        prepare_bank(dataclasses.replace(config, teacher=teacher), tmp_path / cut, clip, str)
        banks[cut] = bank.BankSource(tmp_path / cut)
    assert len(banks["host"]) == len(banks["device"]) == 13
    for i in range(13):
        host, device = banks["host"][i], banks["device"][i]
        assert host["name"] == device["name"]
        np.testing.assert_array_equal(host["image"], device["image"])
        np.testing.assert_array_equal(host["features"], device["features"])
