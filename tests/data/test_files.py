"""Writes that are whole or not at all, and one sentence for every file that cannot be used."""

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from bench.endurance import state_files
from zeroseg_jax.data import files

ROOT = Path(__file__).parent.parent.parent
# Writes half of a file, reports, and waits to be killed.
HALF = """
import sys, time
from zeroseg_jax.data.files import atomic_path
with atomic_path(sys.argv[1]) as temporary, open(temporary, "wb") as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_every_kind_reads_back(tmp_path):
    folder = tmp_path / "made" / "on the way"
    files.write_bytes(folder / "a.bin", b"\x00\xff", fsync=True)
    assert (folder / "a.bin").read_bytes() == b"\x00\xff"
    files.write_text(folder / "a.txt", "Übung\n")
    assert (folder / "a.txt").read_bytes() == "Übung\n".encode()
    files.write_json(folder / "a.json", {"b": [1, "ü"]})
    assert (folder / "a.json").read_text() == '{\n "b": [\n  1,\n  "\\u00fc"\n ]\n}\n'
    assert files.read_json(folder / "a.json") == {"b": [1, "ü"]}
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    files.write_png(folder / "a.png", pixels)
    files.write_png(str(folder / "b.png"), Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "a.png")), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "b.png")), pixels[..., 0])
    for compressed in (False, True):
        files.write_npz(folder / "a.npz", compressed=compressed, path=pixels, y=np.float32(2))
        with np.load(folder / "a.npz") as found:
            np.testing.assert_array_equal(found["path"], pixels)
            assert found["y"] == 2
    assert not list(folder.glob("*.part"))


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    files.write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_kill_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", HALF, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    (left,) = tmp_path.glob("*.part")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    files.remove_stale(tmp_path)  # too young: another process may be at work
    assert left.is_file()
    os.utime(left, (time.time() - 7200,) * 2)
    files.remove_stale(tmp_path)
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    files.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"new": object()})
    with pytest.raises(KeyError), files.atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_bytes(b"{")
        raise KeyError
    with pytest.raises(OSError, match="^no answer$"), files.atomic_path(tmp_path / "a.json"):
        raise OSError("no answer")  # of the network, not of the folder
    assert files.read_json(tmp_path / "a.json") == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_writers_of_one_file_do_not_mix(tmp_path):
    path, rounds = tmp_path / "a.bin", 20
    contents = [bytes([i]) * (100_000 + i) for i in range(4)]
    barrier = threading.Barrier(len(contents) + 1)

    def write(content):
        barrier.wait()
        for _ in range(rounds):
            files.write_bytes(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    barrier.wait()
    while any(thread.is_alive() for thread in threads):
        if path.is_file():
            assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught:
            files.write_bytes(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"{path}: cannot write to {tmp_path} (File too large); name another folder."
    )
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_impossible_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", Path("/proc/none")):
        with pytest.raises(OSError) as caught:
            files.write_text(folder / "a.txt", "")
        assert str(caught.value).startswith(f"{folder / 'a.txt'}: cannot write to {folder} (")
        assert str(caught.value).endswith("name another folder.")
    with pytest.raises(OSError, match="directory"):
        files.write_text(tmp_path, "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "missing; prepare it again."),
        (b" \n", "the file is empty; prepare it again."),
        (b'{"a": 1', "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[1]", "holds a JSON list, not an object; prepare it again."),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_unusable_json_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    kind = FileNotFoundError if content is None else ValueError
    with pytest.raises(kind) as caught:
        files.read_json(path, remedy="prepare it again")
    assert str(caught.value).startswith(f"{path}: {said}")
    assert str(caught.value).endswith("; prepare it again.")
    with pytest.raises(OSError, match="unreadable"):
        files.read_json(tmp_path)


class Bucket(MemoryFileSystem):
    """fsspec's file system in memory under Google's protocol."""

    protocol = ("gcs", "gs")
    store: dict = {}
    pseudo_dirs = [""]


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="see test_mirrors.py")
def test_a_bucket_is_written_through_epath(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    register_implementation("gcs", Bucket, clobber=True)
    files.write_json("gs://bucket/run/a.json", {"a": 1})
    files.write_png(Path("gs://bucket") / "run" / "b.png", np.zeros((2, 2), np.uint8))
    assert json.loads(epath.Path("gs://bucket/run/a.json").read_bytes()) == {"a": 1}
    assert epath.Path("gs://bucket/run/b.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="would ask the network")
def test_a_store_without_its_package_is_one_sentence():
    with pytest.raises(OSError, match=r"^s3://b/a.txt: cannot write to .*s3fs.*mount the bucket"):
        files.write_text("s3://b/a.txt", "")


@pytest.mark.parametrize("state_file", state_files.STATE_FILES, ids=lambda file: file.name)
def test_damaged_state_files_are_named(tmp_path, state_file):
    """Empty, cut, foreign and mistyped content, folders in place of files: no other exception."""
    kinds = []
    for damage, kind, message in state_files.check(state_file, tmp_path):
        assert kind != "fault", f"{damage}: {message}"
        kinds.append(kind)
    # The summary of a shard that cannot be read is made again, with its shard.
    assert len(kinds) >= 16 and ("named" in kinds or state_file.name == "summary of a shard")
