"""Mirrors of gs:// folders against an emulator: addresses, upload, download, removal, errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bucket_server import MISSING, REASON, running_bucket
from zeroseg_jax.data import bank, files, mirrors
from zeroseg_jax.data.records import BankError, encode_record

needs_emulator = pytest.mark.skipif(bool(MISSING), reason=REASON)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch, running_bucket(folder) as environment:
        for name, value in environment.items():
            patch.setenv(name, value)
        mirrors._open_store.cache_clear()
        yield


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that makes this process another machine, with an empty cache."""

    def start(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return name

    start("first")
    return start


@pytest.mark.parametrize("address", ["gs://b/runs/a", Path("gs://b/runs/a"), "gs://b/runs/a/"])
def test_an_address_has_one_mirror_and_back(machine, tmp_path, address):
    assert mirrors.is_address(address)
    folder = mirrors.localise(address)
    assert folder == tmp_path / "first/zeroseg_jax/gs/b/runs/a"
    assert mirrors.find_address(folder) == "gs://b/runs/a"
    assert mirrors.find_address(folder / "x.json") == "gs://b/runs/a/x.json"


def test_other_paths_are_no_mirrors(machine, tmp_path):
    assert mirrors.localise(tmp_path) == tmp_path and not mirrors.is_address(tmp_path)
    assert mirrors.find_address(tmp_path) == ""
    (tmp_path / "a").write_text("1")
    mirrors.pull(tmp_path)
    mirrors.push(tmp_path / "a", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("address", ["gs://bucket", "gs://bucket/", "gs://b/../c", "gs://b//c"])
def test_an_address_without_a_folder_is_one_sentence(machine, address):
    with pytest.raises(ValueError, match=r"^gs:.*: not an address of a folder; write gs://"):
        mirrors.localise(address)


def test_a_flag_for_local_folders_takes_no_address(tmp_path):
    assert mirrors.local_path(str(tmp_path), "--output") == tmp_path
    with pytest.raises(ValueError, match=r"^--output: gs://b/a is an address; give a local folder"):
        mirrors.local_path("gs://b/a", "--output")


def test_a_missing_package_names_the_extra(machine, monkeypatch):
    mirrors._open_store.cache_clear()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(OSError, match=r'gcsfs is missing; pip install "zeroseg_jax\[gcs\]"'):
        mirrors.pull(mirrors.localise("gs://bucket/a"))


@needs_emulator
def test_files_reach_another_machine_and_only_once(server, machine):
    folder = mirrors.localise("gs://bucket/once")
    for name in ("a.json", "deep/b.json", "big.arrayrecord"):
        files.write_json(folder / name, {"name": name})
    (folder / ".lock").write_text("")
    machine("second")
    other = mirrors.localise("gs://bucket/once")
    mirrors.pull(other, ["a.json"])
    assert [p.name for p in other.iterdir()] == ["a.json"]
    mirrors.pull(other, skip=["*.arrayrecord"])
    assert sorted(p.name for p in other.rglob("*.*")) == ["a.json", "b.json"]
    assert json.loads((other / "deep/b.json").read_text()) == {"name": "deep/b.json"}
    inode = (other / "a.json").stat().st_ino
    mirrors.pull(other)
    assert (other / "a.json").stat().st_ino == inode


@needs_emulator
def test_a_changed_file_of_the_same_size_is_downloaded_again(server, machine):
    files.write_json(mirrors.localise("gs://bucket/change") / "a.json", {"a": 1})
    machine("second")
    other = mirrors.localise("gs://bucket/change")
    mirrors.pull(other)
    machine("first")
    files.write_json(mirrors.localise("gs://bucket/change") / "a.json", {"a": 2})
    machine("second")
    mirrors.pull(other)
    assert json.loads((other / "a.json").read_text()) == {"a": 2}


@needs_emulator
def test_what_the_bucket_lacks_is_removed(server, machine):
    folder = mirrors.localise("gs://bucket/removal")
    for name in ("a.json", "b.json"):
        files.write_json(folder / name, {})
    for name in ("old.json", ".lock", "x.part"):
        (folder / name).write_text("")
    mirrors.remove(folder / "b.json")
    mirrors.remove(folder / "never.json")
    machine("second")
    other = mirrors.localise("gs://bucket/removal")
    mirrors.pull(other)
    assert [p.name for p in other.iterdir()] == ["a.json"]
    machine("first")
    mirrors.pull(folder)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "a.json", "x.part"]


@needs_emulator
def test_an_address_is_written_without_a_mirror(server, machine):
    files.write_json("gs://bucket/direct/a.json", {"a": 1})
    files.write_png(Path("gs://bucket") / "direct" / "b.png", np.zeros((2, 2), np.uint8))
    assert not mirrors.localise("gs://bucket/direct").exists()
    mirrors.pull(folder := mirrors.localise("gs://bucket/direct"))
    assert json.loads((folder / "a.json").read_text()) == {"a": 1}
    assert (folder / "b.png").read_bytes().startswith(b"\x89PNG")


@needs_emulator
def test_a_tree_of_other_writers_is_uploaded(server, machine):
    folder = mirrors.localise("gs://bucket/tree")
    (folder / "events").mkdir(parents=True)
    (folder / "events/1").write_text("one")
    mirrors.push_tree(folder / "events")
    (folder / "events/1").write_text("one and two")
    mirrors.push_tree(folder / "events")
    mirrors.push_tree(folder / "none")
    machine("second")
    other = mirrors.localise("gs://bucket/tree")
    mirrors.pull(other)
    assert (other / "events/1").read_text() == "one and two"


@needs_emulator
def test_a_file_that_cannot_be_uploaded_does_not_appear(server, machine):
    path = mirrors.localise("gs://no-such-bucket/run") / "a.json"
    with pytest.raises(
        OSError, match=r"^gs://no-such-bucket/run/a.json: the bucket cannot be used"
    ):
        files.write_json(path, {})
    assert not list(path.parent.iterdir())


@needs_emulator
def test_a_shard_swapped_in_the_bucket_is_refused(server, machine):
    directory = mirrors.localise("gs://bucket/bank")
    bank.begin_bank(directory, {"dtype": "float16"})
    image = np.zeros((8, 8, 3), np.uint8)
    records = [encode_record(i, str(i), image, np.ones((1, 4), np.float16)) for i in range(3)]
    bank.write_shard(directory, 0, records, [])
    bank.finish_bank(directory, 1, {"dtype": "float16"})
    machine("second")
    other = mirrors.localise("gs://bucket/bank")
    mirrors.pull(other)
    assert len(bank.BankSource(other)) == 3
    damaged = bytearray((other / "shard-00000.arrayrecord").read_bytes())
    damaged[-1] ^= 1
    files.write_bytes(other / "shard-00000.arrayrecord", bytes(damaged))
    machine("third")
    third = mirrors.localise("gs://bucket/bank")
    mirrors.pull(third)
    with pytest.raises(BankError, match="not the shard that was written"):
        bank.BankSource(third)
    bank.remove_shard(third, 0)
    assert not bank.has_shard(third, 0)
    mirrors.pull(third)
    assert not bank.has_shard(third, 0)
