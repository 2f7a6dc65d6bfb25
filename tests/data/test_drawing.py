"""Colours that tell classes apart, and pictures whose pixels are where they should be."""

import numpy as np

from zeroseg_jax.data import drawing


def test_palette_is_black_for_background_alone_and_has_no_colour_twice():
    names = ["background", *map(str, range(39))]
    colours = drawing.palette(names)
    assert colours.dtype == np.uint8 and colours.shape == (40, 3)
    assert not colours[0].any() and colours[1:].any(axis=1).all()
    assert len(np.unique(colours, axis=0)) == 40
    np.testing.assert_array_equal(drawing.palette(names[1:]), colours[1:])


def test_labels_outside_the_classes_are_grey():
    colours = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    painted = drawing.colour_labels(np.array([[0, 1, 2], [255, -1, 1]]), colours)
    grey = [127] * 3
    assert painted.tolist() == [[[1, 2, 3], [4, 5, 6], grey], [grey, grey, [4, 5, 6]]]


def test_overlay_mixes_and_darkens_borders():
    image = np.full((2, 4, 3), 100, np.uint8)
    labels = np.array([[0, 0, 1, 1]] * 2)
    painted = drawing.overlay(image, labels, np.array([[200] * 3, [0] * 3], np.uint8), 0.5)
    assert painted[..., 0].tolist() == [[150, 150, 12, 50]] * 2


def test_legend_keeps_the_image_and_wraps():
    image = np.random.default_rng(0).integers(0, 255, (30, 300, 3), dtype=np.uint8)
    entries = [(f"class {i}", (i, 255 - i, 0)) for i in range(9)]
    few, many = drawing.add_legend(image, entries[:2]), drawing.add_legend(image, entries)
    for canvas in (few, many):
        np.testing.assert_array_equal(np.asarray(canvas)[:30, :300], image)
    assert many.height > few.height and many.width == few.width == 300
    shown = {tuple(pixel) for pixel in np.asarray(many)[30:].reshape(-1, 3)}
    assert {colour for _, colour in entries} <= shown


def test_panels_show_every_map_and_name_only_what_occurs():
    names = ["background", "cat", "dog"]
    image = np.full((40, 60, 3), 90, np.uint8)
    truth, guess = np.zeros((40, 60), int), np.full((40, 60), 2)
    truth[0] = 255
    colours = drawing.palette(names)
    panel = drawing.draw_side_by_side(image, truth, {"guess": guess}, names)
    shown = {tuple(pixel) for pixel in np.asarray(panel).reshape(-1, 3)}
    assert tuple(colours[0]) in shown and tuple(colours[2]) in shown
    assert tuple(colours[1]) not in shown  # no cat in either map, none in the legend
    assert (90, 90, 90) in shown and (127, 127, 127) in shown
    with_segments = drawing.draw_panel(image, truth, guess, guess + truth, names)
    assert with_segments.width > panel.width > 600
    alone = drawing.draw_side_by_side(None, None, {"a/very/long/path" * 9: guess}, names)
    assert alone.width < panel.width / 2


def test_soft_outlines_follow_a_slanted_border_without_steps():
    y, x = np.mgrid[:200, :300]
    labels = (x - 150 > 0.37 * (y - 100)).astype(np.int32)
    image = np.full((200, 300, 3), 100, np.uint8)
    colours = np.array([[200, 0, 0], [0, 0, 200]], np.uint8)
    painted = drawing.soft_overlay(image, labels, colours).astype(float)
    # Far away: 45 % of the class colour.
    np.testing.assert_allclose(painted[100, 20], 0.55 * 100 + 0.45 * colours[0], atol=1)
    np.testing.assert_allclose(painted[100, 280], 0.55 * 100 + 0.45 * colours[1], atol=1)
    # The line's centre of gravity in each row lies on the border, within a third of a pixel.
    light = painted[..., 1] - painted[100, 20, 1]
    assert light.max() > 60
    centre = (light * x).sum(axis=1) / light.sum(axis=1)
    inner = slice(20, 180)
    exact = 150 + 0.37 * (np.arange(200) - 100)
    assert np.abs(centre - exact)[inner].max() < 0.3
    width = light.sum(axis=1)[inner] / light.max() * np.cos(np.arctan(0.37))
    assert 1.2 < width.mean() < 2.4


def test_soft_overlay_of_one_class_ignored_pixels_and_large_images():
    image = np.zeros((40, 50, 3), np.uint8)
    plain = drawing.soft_overlay(image, np.zeros((40, 50), int), np.array([[200] * 3], np.uint8))
    assert (plain == 90).all()
    labels = np.where(np.arange(50) < 25, 0, 255)[None].repeat(40, 0)
    grey = drawing.soft_overlay(image, labels, np.array([[200] * 3], np.uint8))
    assert (grey[:, :15] == 90).all() and (grey[:, 35:] == round(127 * 0.45)).all()
    wide = drawing.soft_overlay(
        np.zeros((8, 3000, 3), np.uint8), np.arange(3000)[None].repeat(8, 0) // 1500,
        np.zeros((2, 3), np.uint8),
    )  # fmt: skip
    assert 4 < wide[4, :, 0].astype(float).sum() / wide.max() < 6


def test_an_unpainted_class_keeps_the_images_colours():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    labels = (np.arange(60) >= 30).astype(np.int32)[None].repeat(40, 0)
    colours = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)
    found = drawing.soft_overlay(image, labels, colours, unpainted=0)
    np.testing.assert_array_equal(found[:, :25], image[:, :25])
    usual = drawing.soft_overlay(image, labels, colours)
    np.testing.assert_array_equal(found[:, 35:], usual[:, 35:])
    assert (usual[:, :25] <= found[:, :25]).all() and (usual[:, :25] != found[:, :25]).any()
    assert (found[:, 29:31] > image[:, 29:31]).mean() > 0.7  # the light line between both
