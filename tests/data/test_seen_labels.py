"""Labels for training: nothing about unseen classes leaves the loader but its count."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import seen_labels as labels
from zeroseg_jax.data.transforms import ImageError, read_image

SEEN, UNSEEN = (0, 2, 3), (1, 4, 5)


def draw_map(seed=0):
    rng = np.random.default_rng(seed)
    full = rng.integers(0, 6, (40, 60)).astype(np.int32)
    full[:3] = labels.VOID
    return full


def load(full):
    return labels.SeenLabelSource(lambda i, n: full, 6, SEEN, UNSEEN, 20).load(0, "a")


@pytest.mark.parametrize("order", [(4, 5, 1), (1, 1, 1), (labels.VOID,) * 3])
def test_permuting_unseen_labels_changes_nothing(order):
    """Swapped, all the same, or never annotated: training gets the same bytes."""
    full = draw_map()
    other = full.copy()
    for i, j in zip(UNSEEN, order, strict=True):
        other[full == i] = j
    assert load(full).labels.tobytes() == load(other).labels.tobytes()
    # The truth, which only the report reads, did change.
    assert load(full).truth.tobytes() != load(other).truth.tobytes()


def test_seen_are_renumbered_and_hidden_are_counted():
    full = draw_map()
    found = load(full)
    square = full[:, 10:50]
    assert found.hidden.tolist() == [(square == i).sum() for i in UNSEEN]
    small = square[1::2, 1::2]  # the pixel right of and below the middle of each cell
    for new, old in enumerate(SEEN):
        np.testing.assert_array_equal(found.labels == new, small == old)
    assert set(np.unique(found.labels)) == {-1, 0, 1, 2}


def test_a_label_out_of_range_names_the_file():
    full = draw_map()
    full[20, 30] = 9
    with pytest.raises(ImageError, match=r"a: its mask has 0..9, but classes are 0..5"):
        load(full)


def test_folder_of_masks(tmp_path):
    mask = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8), "P")
    mask.putpalette([i for k in range(256) for i in (k, 255 - k, 7)])
    mask.save(tmp_path / "x.png")
    as_is = labels.read_folder(str(tmp_path), False)(0, "x.jpg")
    reduced = labels.read_folder(str(tmp_path), True)(0, "x.jpg")
    assert as_is.tolist() == [[0, 1], [2, 255]] and reduced.tolist() == [[255, 0], [1, 255]]
    with pytest.raises(ImageError, match="y.png: damaged or unreadable .No such file"):
        labels.read_folder(str(tmp_path), False)(0, "y.jpg")
    Image.new("RGB", (2, 2)).save(tmp_path / "z.png")
    with pytest.raises(ImageError, match="z.png: mode RGB has colours"):
        labels.read_folder(str(tmp_path), False)(0, "z.jpg")
    with pytest.raises(ValueError, match="clip_zss.labels.directory: .*nowhere is not a folder"):
        labels.read_folder(str(tmp_path / "nowhere"), False)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_masks_turn_with_their_images(tmp_path, orientation, drawn_on):
    """A mask fits its image whether it was drawn on the pixels as stored or as displayed."""
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")[..., 0]
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(upright if drawn_on == "upright" else grey).save(masks / "a.png")
    found = labels.read_folder(str(masks), False, str(tmp_path))(0, "a.png")
    if drawn_on == "stored" and orientation in (2, 3, 4):
        # Equal sizes: only the pixels as displayed are known to training.
        assert found.tolist() == grey.tolist()
    else:
        assert found.tolist() == upright.tolist()


def test_a_mask_of_another_size_names_both(tmp_path):
    Image.new("L", (6, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.new("L", (8, 4)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ImageError, match=r"masks/a.png: 8 x 4 px, but .*a.jpg is 6 x 4 px"):
        labels.read_folder(str(tmp_path / "masks"), False, str(tmp_path))(0, "a.jpg")


def test_sixteen_shades_are_sixteen_labels(tmp_path):
    """A grey PNG of 4 bits, whose values Pillow scales to 0..255."""
    rows = bytes([0, 0x01, 0x2F, 0, 0x34, 0x56])  # two rows of four labels, no filter

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 4, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    found = labels.read_folder(str(tmp_path), False)(0, "a.jpg")
    assert found.tolist() == [[0, 1, 2, 15], [3, 4, 5, 6]]


def test_playground_labels_are_those_of_the_benchmark():
    from zeroseg_jax.data.benchmarks import get_benchmark

    benchmark = dataclasses.replace(get_benchmark("playground/zss"), seed=0)
    full = labels.read_playground(0, 224)(3, "")
    np.testing.assert_array_equal(full, benchmark[3]["label"])


def test_no_split_means_no_annotated_pixel():
    config = from_mapping(
        {
            "objective": "clip_zss",
            "teacher": {"grids": (1,)},
            "clip_zss": {"labels": {"split": "none"}, "loss": {"prototype_weight": 0.0}},
        }
    )
    source = labels.build_label_source(config, 0, (), (), 224)
    found = source.load(0, "a")
    assert found.labels.shape == (56, 56) and (found.labels == -1).all()
