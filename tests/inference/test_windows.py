"""Layout of windows, and resizing against torch and cv2."""

import numpy as np
import pytest

from zeroseg_jax.inference import windows
from zeroseg_jax.inference.presets import get_preset


def lay_out(height, width, *, detail=1, **changes):
    preset = get_preset("zeroseg", "playground/full", changes)
    return windows.lay_out(height, width, preset, image_px=96, patch_px=8, detail=detail)


@pytest.mark.parametrize(
    ("size", "laid"),
    [
        ((96, 96), (96, 96)),
        ((1, 1), (96, 96)),
        ((300, 400), (80, 112)),
        ((400, 300), (112, 80)),
        ((100, 200), (64, 136)),
    ],
)
def test_same_area_is_one_window_of_as_many_patches(size, laid):
    layout = lay_out(*size)
    assert layout == (*laid, laid, [0], [0], None)
    assert 0.85 < np.prod(laid) / 96**2 < 1.15


def test_long_images_and_detail_get_square_windows():
    layout = lay_out(100, 400)
    assert layout[:3] == (96, 384, (96, 96)) and layout.lefts == [48 * i for i in range(7)]
    assert lay_out(100, 100, detail=2)[:4] == (192, 192, (96, 96), [0, 48, 96])
    assert lay_out(100, 100, detail=2, stride_px="96").tops == [0, 96]


def test_whole_keeps_the_image_and_sees_full_patches():
    layout = lay_out(300, 400, window="whole", short_side_px="100")
    assert layout == (100, 133, (96, 128), [0], [0], (100, 133))


def test_sliding_windows_are_mmsegmentations():
    layout = lay_out(375, 500, window="sliding", short_side_px="448", window_px="448",
                     stride_px="224")  # fmt: skip
    assert layout == (448, 597, (448, 448), [0], [0, 149], None)
    assert layout.areas() == [np.s_[0:448, 0:448], np.s_[0:448, 149:597]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"window": "sliding", "window_px": "50"}, "50 px must be a multiple of the patch of 8 px"),
        ({"window": "sliding", "window_px": "104"}, "no larger than the short side of 96 px"),
        ({"short_side_px": "100"}, "100 px must be a multiple of the patch of 8 px"),
        ({"window": "whole", "short_side_px": "5"}, "short_side_px=5 is less than the patch"),
    ],
)
def test_sizes_that_do_not_fit(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        lay_out(100, 150, **changes)


@pytest.mark.parametrize(
    ("length", "window", "stride"),
    [(448, 448, 224), (500, 448, 224), (1000, 448, 224), (113, 112, 56)],
)
def test_windows_cover_everything_and_stay_inside(length, window, stride):
    starts = windows.window_starts(length, window, stride)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= length - window
        covered[start : start + window] = True
    assert covered.all() and len(set(starts)) == len(starts)


def test_resize_rule_is_mmcvs():
    assert windows.resized_size(375, 500, 448) == (448, 597)
    assert windows.resized_size(500, 333, 448) == (673, 448)
    assert windows.resized_size(224, 224, 112) == (112, 112)


SIZES = [((24, 36), (40, 60)), ((24, 36), (11, 17)), ((375, 500), (448, 597)), ((99, 9), (60, 70))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_bilinear_equals_torch(old, new):
    torch = pytest.importorskip("torch", reason="parity needs torch: pip install .[parity]")
    image = np.random.default_rng(0).integers(0, 255, (*old, 3), dtype=np.uint8)
    found = windows.resize_image(image, *new, "bilinear")
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        x, new, mode="bilinear", align_corners=False, antialias=False
    )
    # Levels run to 255 and places to 600, both float32: a relative 1e-5 of the range.
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=3e-3)


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((1024, 2048), (448, 896)), ((50, 50), (50, 7))])
def test_bytes_equal_cv2s(old, new):
    cv2 = pytest.importorskip("cv2", reason="parity needs cv2: pip install opencv-python-headless")
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    found = windows.resize_image(image, *new, "cv2")
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found, expected)


def test_bytes_are_within_a_level_of_the_exact_mean():
    image = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    exact = windows.resize_image(image, 70, 64, "bilinear")
    found = windows.resize_image(image, 70, 64, "cv2")
    assert (found == np.rint(found)).all() and 0 < np.abs(found - exact).max() <= 1


def test_long_images_are_stretched_and_known():
    assert not windows.is_stretched(375, 500, 448) and windows.is_stretched(100, 3000, 448)
    assert windows.resized_size(100, 3000, 448) == (448, 2048)
    # mmcv's scale (520, 520) limits the long side; one window over the image needs no short side.
    assert windows.resized_size(375, 500, 520, 520, least=16) == (390, 520)
    preset = get_preset("maskclip_plain", "context59")
    layout = windows.lay_out(375, 500, preset, image_px=224, patch_px=16)
    assert (layout.height, layout.width) == (390, 520) and layout.window == (384, 512)


def test_matrix_and_taps_are_one_rule():
    values = np.random.default_rng(0).random((9, 1, 1)).astype(np.float32)
    by_matrix = windows.bilinear_matrix(9, 14) @ values[:, 0]
    np.testing.assert_allclose(by_matrix, windows.resize_floats(values, 14, 1)[:, 0], atol=1e-6)
