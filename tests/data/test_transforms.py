"""Every kind of picture that users have, good and bad."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from zeroseg_jax.data.transforms import (
    ImageError,
    cut_views,
    decode_image,
    read_image,
    read_orientation,
    square_crop,
    to_image,
    turn_upright,
)
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


def test_postscript_is_no_image_and_starts_no_program(tmp_path, monkeypatch):
    """Pillow would start Ghostscript, which runs the file as a program."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "holiday.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n")
    with pytest.raises(ImageError, match=r"holiday\.jpg: not an image file"):
        read_image(path)
    with pytest.raises(ImageError, match="holiday: not an image file"), open(path, "rb") as file:
        decode_image(file, "holiday")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "AVIF", "PPM"])
def test_a_damaged_byte_gives_an_image_or_one_sentence(tmp_path, kind):
    """Whatever a decoder raises names the file."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format=kind)
    rng = np.random.default_rng(1)
    for _ in range(150):
        content = bytearray(buffer.getvalue())
        for at in rng.integers(0, len(content), 3):
            content[at] = rng.integers(0, 256)
        try:
            found = decode_image(
                io.BytesIO(bytes(content[: rng.integers(8, len(content) + 1)])), "a"
            )
        except ImageError as error:
            assert str(error).startswith("a: ") and str(error).endswith(".")
        else:
            assert found.dtype == np.uint8 and found.shape[2] == 3


@pytest.mark.parametrize(
    "raised",
    [NotImplementedError("format"), KeyError("x"), struct.error("x"), MemoryError(), IndexError()],
)
def test_any_exception_of_a_decoder_is_one_sentence(tmp_path, monkeypatch, raised):
    save(tmp_path / "a.png", plain())

    def load(self):
        raise raised

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(ImageError, match=r"a\.png: (damaged|too large)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "TIFF"])
def test_the_content_counts_and_not_the_suffix(tmp_path, kind):
    path = tmp_path / "a.jfif"
    plain().save(path, format=kind)
    assert np.abs(read_image(path)[5, 5].astype(int) - RED).max() < 12


def test_floats_of_a_tiff_are_those_of_an_array(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (4, 1))
    found = read_image(save(tmp_path / "a.tif", Image.fromarray(ramp)))
    np.testing.assert_array_equal(found, to_image(ramp))
    whole = np.tile(np.arange(256, dtype=np.float32), (4, 1))
    assert read_image(save(tmp_path / "b.tif", Image.fromarray(whole)))[0, :, 0].tolist() == list(
        range(256)
    )
    for value in (3.5, -1.0, np.nan, np.inf):
        ramp[0, 0] = value
        path = save(tmp_path / "c.tif", Image.fromarray(ramp))
        with pytest.raises(ImageError, match=r"c\.tif: floats from .* are not in \[0, 1\]"):
            read_image(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_values_span_the_whole_range(tmp_path, bits):
    ramp = np.tile(np.linspace(0, 2**bits - 1, 64), (4, 1)).astype(np.uint16)
    found = read_image(save(tmp_path / "a.tif", Image.fromarray(ramp)))[0, :, 0]
    np.testing.assert_allclose(found, np.linspace(0, 255, 64), atol=1)


def test_integers_beyond_sixteen_bits_are_refused(tmp_path):
    path = save(tmp_path / "a.tif", Image.fromarray(np.full((4, 4), 70_000, np.int32)))
    with pytest.raises(ImageError, match=r"a\.tif: values from 70000 to 70000"):
        read_image(path)


def test_pillow_images_that_cannot_be_read(tmp_path):
    with Image.open(save(tmp_path / "a.png", plain())) as closed:
        pass
    with pytest.raises(ImageError, match=r"image: its file was closed .* call load\(\)"):
        to_image(closed)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "b.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="image: damaged or unreadable"):
        to_image(Image.open(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_pillow_s(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    path = save(tmp_path / "a.png", Image.fromarray(stored), exif=exif)
    size, found = read_orientation(path)
    assert (size, found) == ((4, 6), orientation)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(turn_upright(stored, orientation), wanted)


def test_large_jpegs_are_decoded_at_a_fraction_and_other_files_whole(tmp_path):
    ramp = np.linspace(0, 255, 900)[None, :, None] * np.ones((600, 1, 3))
    pixels = ramp.astype(np.uint8)
    jpeg = save(tmp_path / "a.jpg", Image.fromarray(pixels), quality=95)
    for least, shape in ((0, (600, 900)), (301, (600, 900)), (300, (300, 450)), (100, (150, 225))):
        found = read_image(jpeg, least_px=least)
        assert found.shape[:2] == shape
        # The means of blocks: what the filter of a later resize begins with.
        wanted = np.asarray(Image.fromarray(pixels).reduce(600 // shape[0])).astype(int)
        assert np.abs(found - wanted).max() <= 3
    png = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert read_image(png, least_px=100).shape == (600, 900, 3)


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
