"""Bank preparation: every readable image once, after kills and with several hosts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.data.locks import LockedError, lock_directory
from zeroseg_jax.teacher import encode_bank
from zeroseg_jax.teacher.load import load_teacher

ROOT = Path(__file__).parent.parent.parent
# A bank of the Playground by the shipped CLIP, in many small shards.
PREPARE = """
import sys
from pathlib import Path
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.teacher.encode_bank import prepare_bank
bank.SHARD_IMAGES = 4
config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                       "teacher": {"grids": (1, 2)}, "data": {"images": 30}})
prepare_bank(config, Path(sys.argv[1]), load_teacher("playground"))
"""


def start(directory):
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(directory)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        stdout=subprocess.DEVNULL,
    )


def test_killed_and_restarted_equals_undisturbed(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    kills = 0
    for goal in (1, 4):
        process = start(tmp_path / "killed")
        while process.poll() is None:
            if len(list((tmp_path / "killed").glob("*.arrayrecord"))) >= goal:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait()
    assert kills == 2
    assert start(tmp_path / "killed").wait() == 0
    first, second = bank.BankSource(tmp_path / "whole"), bank.BankSource(tmp_path / "killed")
    assert len(first) == len(second) == 30
    for i in range(30):
        assert first[i]["name"] == second[i]["name"]
        np.testing.assert_array_equal(first[i]["image"], second[i]["image"])
        np.testing.assert_array_equal(first[i]["features"], second[i]["features"])


def test_hosts_share_the_shards_and_the_last_closes_the_bank(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "SHARD_IMAGES", 4)
    clip = load_teacher("playground")
    config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                           "teacher": {"grids": (1, 2)}, "data": {"images": 18}})  # fmt: skip
    whole = encode_bank.prepare_bank(config, tmp_path / "whole", clip, print)
    closed = []
    for host in (2, 0, 1):
        lines = []
        closed.append(
            encode_bank.prepare_bank(
                config, tmp_path / "shared", clip, lines.append, host_index=host, host_count=3
            )
        )
        assert any("left to other hosts" in line for line in lines) == (closed[-1] is None)
    assert closed == [None, None, whole]
    first, second = bank.BankSource(tmp_path / "whole"), bank.BankSource(tmp_path / "shared")
    for i in range(18):
        np.testing.assert_array_equal(first[i]["features"], second[i]["features"])
    with pytest.raises(ValueError, match="--host_index: 3 is not below"):
        encode_bank.prepare_bank(
            config, tmp_path / "shared", clip, print, host_index=3, host_count=3
        )


def test_a_source_without_a_whole_batch_is_refused_before_encoding(tmp_path):
    config = from_mapping({"data": {"images": 30}, "optim": {"batch_global": 32}})
    with pytest.raises(ValueError, match="optim.batch_global: 32 is more than the 30 images"):
        encode_bank.prepare_bank(config, tmp_path, load_teacher("playground"), print, trains=True)
    assert not list(tmp_path.iterdir())


def test_one_forward_takes_even_shares_of_a_shard():
    clip = load_teacher("playground")
    devices = jax.local_device_count()
    for views in (5, 14, 30, 84, 4000):
        count = encode_bank.count_group_images(clip, views)
        groups = -(-bank.SHARD_IMAGES // count)
        assert count % devices == 0 and groups * count < bank.SHARD_IMAGES * 1.25


def test_folder_with_bad_files_loses_nothing_silently(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "c.png", "e.JPG"):
        pixels = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "b.jpg").write_bytes(b"")
    (folder / "d.png").write_bytes(b"no picture")
    config = from_mapping(
        {"model": {"image_px": 32, "encoder": {"patch_px": 8}}, "teacher": {"grids": (1, 2)},
         "data": {"source": "folder", "directory": str(folder), "images": 0}}
    )  # fmt: skip
    lines = []
    clip = load_teacher("playground")
    manifest = encode_bank.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    assert manifest["records"] == 3 and len(manifest["skipped"]) == 2
    source = bank.BankSource(tmp_path / "bank")
    assert [source[i]["name"] for i in range(3)] == ["a.jpg", "c.png", "e.JPG"]
    assert any("b.jpg" in line and "empty" in line for line in lines)
    assert "5 of 5 images" in lines[0] and "5 views" in lines[0]
    assert "MB needed" in lines[0] and "MB free" in lines[0]
    assert manifest["views"] == 5 and manifest["images"] == 5
    assert manifest["teacher"] == clip.digest and manifest["dtype"] == "float16"
    assert [entry["index"] for entry in manifest["skipped"]] == [1, 3]
    # An image that replaces another under its name is read again, and nothing else is.
    assert encode_bank.prepare_bank(config, tmp_path / "bank", clip, lines.append) == manifest
    assert any("0 of 5 images" in line for line in lines)
    pixels = np.zeros((50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "c.png")
    again = encode_bank.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    assert "prepare: shard 0 is encoded again, because images were replaced" in lines
    assert again["sha256"] != manifest["sha256"]
    assert not bank.BankSource(tmp_path / "bank")[1]["image"].any()
    # A file more moves the index of those behind it: another bank.
    Image.fromarray(pixels).save(folder / "aa.png")
    with pytest.raises(bank.BankError, match="begun with images = 5, but now it is 6"):
        encode_bank.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    (folder / "c.png").unlink()
    with pytest.raises(bank.BankError, match="begun with names = "):
        encode_bank.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ValueError, match="the bank needs .* GB"):
        encode_bank.prepare_bank(config, tmp_path / "full", clip, lines.append)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "b.jpg: a feature of the teacher is NaN"), (1e6, "b.jpg: .* overflows float16")],
)
def test_features_that_cannot_be_stored_are_named(monkeypatch, tmp_path, value, message):
    """A feature that is not finite is not called an overflow."""
    config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                           "teacher": {"grids": (1, 2)}})  # fmt: skip

    class Two:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"image": np.zeros((32, 32, 3), np.uint8), "name": "ab"[index] + ".jpg"}

    def encode(*arguments, **named):
        features = np.zeros((512, 5, 4), np.float32)
        features[1] = value
        return features, None

    for kind in ("padded", "square"):
        monkeypatch.setattr(encode_bank, f"build_{kind}_encoder", lambda *a, **k: encode)
    bank.begin_bank(tmp_path, {})
    with pytest.raises(ValueError, match=message):
        encode_bank.encode_shards(
            config, load_teacher("playground"), tmp_path, Two(), [0], lambda line: None
        )


def test_a_second_prepare_is_told_who_writes_the_bank(tmp_path):
    config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                           "data": {"images": 4}})  # fmt: skip
    clip = load_teacher("playground")
    told = rf"process {os.getpid()} on .* prepares a bank there; wait for it"
    held = lock_directory(tmp_path, "prepares a bank", name=".lock-0")
    with held, pytest.raises(LockedError, match=told):
        encode_bank.prepare_bank(config, tmp_path, clip, print)
    assert not list(tmp_path.iterdir())
