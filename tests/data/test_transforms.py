"""Every kind of picture that users have, good and bad."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.transforms import ImageError, cut_views, read_image, square_crop
from zeroseg_jax.data.views import grid_windows

RED = (200, 30, 40)


def save(path, image, **options):
    image.save(path, **options)
    return path


def plain(mode="RGB", size=(40, 30), colour=RED):
    return Image.new("RGB", size, colour).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "YCbCr"])
def test_colour_modes_keep_their_colour(tmp_path, mode):
    suffix = {"P": "png", "RGB": "png"}.get(mode, "jpg")
    source = plain().quantize(4) if mode == "P" else plain(mode)
    image = read_image(save(tmp_path / f"a.{suffix}", source))
    assert image.shape == (30, 40, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - RED).max() < 12


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_three_equal_channels(tmp_path, mode):
    image = read_image(save(tmp_path / "a.png", plain(mode)))
    assert image.shape == (30, 40, 3)
    assert (image[..., 0] == image[..., 2]).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = read_image(save(tmp_path / "a.png", Image.fromarray(values)))
    np.testing.assert_allclose(image[..., 0].ravel(), np.arange(256), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path, mode):
    layer = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    layer.paste((0, 0, 0, 255), (0, 0, 8, 4))
    image = read_image(save(tmp_path / "a.png", layer.convert(mode)))
    assert (image[:4] == 0).all() and (image[4:] == 255).all()


def test_palette_with_a_transparent_index(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    found = read_image(save(tmp_path / "a.png", image, transparency=1))
    assert (found == 255).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(save(tmp_path / "a.jpg", plain(), exif=exif))
    assert image.shape == (40, 30, 3)


def test_first_frame_of_an_animation(tmp_path):
    frames = [plain(colour=(0, 0, 250)), plain(colour=(250, 0, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = read_image(tmp_path / "a.gif")
    assert image[0, 0, 2] > 200 > image[0, 0, 0]


def test_one_pixel_and_thirty_thousand(tmp_path):
    assert read_image(save(tmp_path / "a.png", plain(size=(1, 1)))).shape == (1, 1, 3)
    wide = read_image(save(tmp_path / "b.png", plain(size=(30_000, 20))))
    assert wide.shape == (20, 30_000, 3)
    for image in (wide, np.zeros((1, 1, 3), np.uint8)):
        assert square_crop(image, 16).shape == (16, 16, 3)
        assert cut_views(image, grid_windows((1, 3), False), 8).shape == (10, 8, 8, 3)


def bomb(width, height):
    """A PNG whose header announces far more pixels than its bytes hold."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"this is no picture", "not an image"),
        (bomb(9_000, 9_000), "more than the limit"),
        (bomb(100_000, 100_000), "pixels"),
        (bomb(64, 64), "damaged"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"bad\.png: .*{reason}"):
        read_image(path)


def test_truncated_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ImageError, match=r"cut\.jpg: damaged"):
        read_image(tmp_path / "cut.jpg")


def test_missing_file():
    with pytest.raises(ImageError, match="nowhere.png"):
        read_image("nowhere.png")


def test_views_are_the_cells_in_reading_order():
    image = np.zeros((60, 60, 3), np.uint8)
    image[:30, 30:] = 80
    image[30:, :30] = 160
    image[30:, 30:] = 240
    views = cut_views(image, grid_windows((1, 2), False), 10)
    assert [int(np.median(view)) for view in views[1:]] == [0, 80, 160, 240]
    # A few levels: a large picture is first reduced to what the finest grid needs.
    np.testing.assert_allclose(views[0].astype(int), square_crop(image, 10), atol=8)
