"""Image sources of folders and of the Playground."""

import os

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.records import decode_record, encode_record
from zeroseg_jax.data.sources import FolderSource, PlaygroundSource, digest_names


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="has no image"):
        FolderSource(str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder"):
        FolderSource(str(tmp_path / "none"))


def test_names_that_are_no_utf8_are_read_and_digested(tmp_path):
    for name in (b"a\xff.png", b"a\xfe.png"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            Image.new("RGB", (4, 4)).save(file, "PNG")
    source = FolderSource(str(tmp_path))
    digest = digest_names(source)
    assert len(source) == 2 and source[0]["image"].shape == (4, 4, 3)
    record = decode_record(
        encode_record(0, source[1]["name"], source[1]["image"], np.zeros((1, 2), np.float16))
    )
    assert record["name"] == source[1]["name"]
    os.rename(os.fsencode(tmp_path) + b"/a\xff.png", os.fsencode(tmp_path) + b"/a\xfd.png")
    assert digest_names(FolderSource(str(tmp_path))) != digest


def test_playground_source_is_a_pure_function_of_the_index():
    first, second = PlaygroundSource(0, 5, 32), PlaygroundSource(0, 9, 32)
    np.testing.assert_array_equal(first[3]["image"], second[3]["image"])


def test_only_listed_images_are_taken(tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.jpg")
    listed = tmp_path / "train.txt"
    listed.write_text("c\na\n")
    assert FolderSource(str(tmp_path), stems=str(listed)).names == ["a.jpg", "c.jpg"]
    listed.write_text("a\nq\nz\n")
    with pytest.raises(ValueError, match="data.names: 2 of 3 images .* the first is q"):
        FolderSource(str(tmp_path), stems=str(listed))
    with pytest.raises(ValueError, match="data.names: .* is not a file"):
        FolderSource(str(tmp_path), stems=str(tmp_path / "nothing.txt"))
