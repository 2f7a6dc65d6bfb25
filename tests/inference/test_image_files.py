"""Images from files, folders, globs and videos."""

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.data.transforms import ImageError
from zeroseg_jax.inference import image_files as pictures


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "a.png")
    Image.new("RGB", (8, 8)).save(root / "deep" / "a.jpg")
    (root / "notes.txt").write_text("no image")
    return root


def test_files_folders_and_globs(folder, tmp_path):
    names = [str(p.relative_to(folder)) for p in pictures.list_files([str(folder)])]
    assert names == ["a.png", "deep/a.jpg"]
    assert len(pictures.list_files([str(folder), str(folder / "**" / "*.jpg")])) == 2
    assert len(pictures.list_files([str(folder)], exclude=folder / "deep")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image or video"):
        pictures.list_files([str(tmp_path / "empty")])


def test_what_is_left_out_is_said(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (8, 8)).save(folder / ".ipynb_checkpoints" / "a-checkpoint.png")
    Image.new("RGB", (8, 8)).save(folder / "b.jfif", "JPEG")
    lines = []
    found = pictures.list_files([str(folder)], log=lines.append)
    assert [path.name for path in found] == ["a.png", "b.jfif", "a.jpg"]
    assert len(lines) == 1 and "1 hidden files were left out" in lines[0]


def test_stems_that_differ_in_case_do_not_overwrite_each_other(tmp_path):
    for name in ("a.png", "A.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    stems = [found.stem for found in pictures.read_images([tmp_path / "a.png", tmp_path / "A.png"])]
    assert stems == ["a", "A-2"]


def test_frames_of_a_video(tmp_path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = list(pictures.read_images([path], every_seconds=1.0))
    assert [f.stem for f in found] == ["clip_00000000ms", "clip_00001000ms", "clip_00002000ms"]
    for number, one in enumerate(found):
        assert one.image.shape == (48, 64, 3)
        assert abs(int(one.image.mean()) - 100 * number) < 6
    assert len(list(pictures.read_frames(path, every_seconds=0))) == 25
    path.write_bytes(path.read_bytes()[:200])
    (bad,) = pictures.read_images([path])
    assert isinstance(bad.image, ImageError) and "clip.mp4" in str(bad.image)
