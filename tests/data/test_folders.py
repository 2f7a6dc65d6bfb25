"""Listing of folders as users have them: links, circles, hidden copies, names that are no UTF-8."""

import os

import pytest

from zeroseg_jax.data.folders import find_files


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root, found):
    return [path.relative_to(root).as_posix() for path in found.paths]


def test_linked_folders_are_entered_and_circles_are_not(tmp_path):
    root = tmp_path / "train"
    touch(root / "dogs" / "a.jpg", tmp_path / "disk2" / "cats" / "b.JPG")
    (root / "cats").symlink_to("../disk2/cats")
    (root / "again").symlink_to("../disk2/cats")  # no circle: the same images twice
    (root / "dogs" / "up").symlink_to("..")
    (tmp_path / "disk2" / "cats" / "self").symlink_to(".")
    (root / "broken").symlink_to("nowhere")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    found = find_files(root, (".jpg",))
    assert names(root, found) == ["again/b.JPG", "cats/b.JPG", "dogs/a.jpg"] and not found.notes


def test_hidden_and_system_files_are_left_out_and_counted(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "._a.png", tmp_path / ".ipynb_checkpoints" / "a.png",
          tmp_path / "deep" / "__MACOSX" / "x" / "a.png", tmp_path / "@eaDir" / "a.png",
          tmp_path / ".git" / "index")  # fmt: skip
    found = find_files(tmp_path, (".png",))
    assert names(tmp_path, found) == ["a.png"]
    assert found.notes == [
        f"{tmp_path}: 4 hidden files were left out (names or folders with a dot)."
    ]
    hidden_root = tmp_path / ".ipynb_checkpoints"
    assert names(hidden_root, find_files(hidden_root, (".png",))) == ["a.png"]  # named on purpose


def test_images_of_unread_formats_are_counted(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "b.HEIC", tmp_path / "c.svg", tmp_path / "notes.txt")
    found = find_files(tmp_path, (".png",))
    assert found.notes == [f"{tmp_path}: 2 files were left out, unread (.heic, .svg)."]


def test_names_that_are_no_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xe9.png"
    with open(path, "wb"):
        pass
    assert [os.fsencode(p) for p in find_files(tmp_path, (".png",)).paths] == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every folder")
def test_a_closed_folder_is_said(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "closed" / "b.png")
    (tmp_path / "closed").chmod(0)
    found = find_files(tmp_path, (".png",))
    (tmp_path / "closed").chmod(0o755)
    assert names(tmp_path, found) == ["a.png"]
    assert found.notes == [f"{tmp_path}/closed: not entered (Permission denied)."]
