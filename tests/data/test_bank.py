"""The bank: every readable image once, whatever is killed when."""

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
from zeroseg_jax.data.sources import FolderSource, PlaygroundSource, build_source

ROOT = Path(__file__).parent.parent.parent
# A bank of the Playground by the shipped CLIP, in many small shards.
PREPARE = """
import sys
from pathlib import Path
from zeroseg_jax import teacher
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.commands.prepare import prepare_bank
bank.SHARD_IMAGES = 4
config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                       "teacher": {"grids": (1, 2)}, "data": {"images": 30}})
prepare_bank(config, Path(sys.argv[1]), teacher.load("playground"))
"""


def test_record_round_trip():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
    for dtype in (np.float16, np.float32):
        features = rng.normal(size=(3, 7)).astype(dtype)
        found = bank.decode_record(bank.encode_record(9, "café.jpg", image, features))
        assert (found["index"], found["name"]) == (9, "café.jpg")
        np.testing.assert_array_equal(found["image"], image)
        np.testing.assert_array_equal(found["features"], features)
        assert found["features"].dtype == dtype


def test_record_size_is_as_estimated():
    record = bank.encode_record(0, "", np.zeros((6, 6, 3), np.uint8), np.zeros((5, 4), np.float16))
    assert len(record) == bank.count_record_bytes(6, 5, 4, "float16")


def test_a_foreign_record_is_refused():
    with pytest.raises(bank.BankError, match="begins with"):
        bank.decode_record(b"XXXX" + bytes(40))


def write(directory, shards, skipped=()):
    settings = {"teacher": "abc", "grids": [1, 2]}
    bank.begin_bank(directory, settings)
    for shard in range(shards):
        records = [
            bank.encode_record(shard * 3 + i, f"{shard}-{i}", np.full((4, 4, 3), i, np.uint8),
                               np.full((5, 2), shard, np.float16)) for i in range(3)
        ]  # fmt: skip
        bank.write_shard(directory, shard, records, list(skipped) if not shard else [])
    return bank.finish_bank(directory, shards, settings)


def test_write_and_read(tmp_path):
    skipped = [{"index": 7, "reason": "b.jpg: the file is empty."}]
    manifest = write(tmp_path, 2, skipped)
    assert manifest["records"] == 6 and manifest["skipped"] == skipped
    source = bank.BankSource(tmp_path)
    assert len(source) == 6
    assert [source[i]["index"] for i in range(6)] == list(range(6))
    assert not list(tmp_path.glob("*.part"))


def test_other_settings_are_refused_by_name(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(bank.BankError, match="begun with grids"):
        bank.begin_bank(tmp_path, {"teacher": "abc", "grids": [1, 3]})
    manifest = bank.read_manifest(tmp_path)
    with pytest.raises(bank.BankError, match="bank: teacher is 'abc' there but 'x'"):
        bank.check_manifest(manifest, {"teacher": "x"})
    manifest["source"] = {"kind": "folder", "directory": "a"}
    bank.check_manifest(manifest, {"source": {"kind": "folder", "directory": "a"}})
    with pytest.raises(bank.BankError, match="bank: source.directory is 'a' there but 'b'"):
        bank.check_manifest(manifest, {"source": {"kind": "folder", "directory": "b"}})


def test_no_bank_says_what_to_run(tmp_path):
    with pytest.raises(bank.BankError, match="zeroseg_jax prepare"):
        bank.BankSource(tmp_path)


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
    from zeroseg_jax import teacher
    from zeroseg_jax.commands import prepare

    monkeypatch.setattr(bank, "SHARD_IMAGES", 4)
    clip = teacher.load("playground")
    config = from_mapping({"model": {"image_px": 32, "encoder": {"patch_px": 8}},
                           "teacher": {"grids": (1, 2)}, "data": {"images": 18}})  # fmt: skip
    whole = prepare.prepare_bank(config, tmp_path / "whole", clip, print)
    closed = []
    for host in (2, 0, 1):
        lines = []
        closed.append(
            prepare.prepare_bank(
                config, tmp_path / "shared", clip, lines.append, host_index=host, host_count=3
            )
        )
        assert any("other hosts'" in line for line in lines) == (closed[-1] is None)
    assert closed == [None, None, whole]
    first, second = bank.BankSource(tmp_path / "whole"), bank.BankSource(tmp_path / "shared")
    for i in range(18):
        np.testing.assert_array_equal(first[i]["features"], second[i]["features"])
    with pytest.raises(ValueError, match="--host_index: 3 is not below"):
        prepare.prepare_bank(config, tmp_path / "shared", clip, print, host_index=3, host_count=3)


def test_the_time_left_is_told_without_the_compiler(tmp_path, monkeypatch):
    from zeroseg_jax.teacher import encode_bank as encoding

    now = [0.0]
    monkeypatch.setattr(encoding.time, "perf_counter", lambda: now[0])
    lines = []
    progress = encoding._Progress(100, lines.append)
    for seconds, count in ((60.0, 10), (5.0, 10), (3.0, 10), (35.0, 70)):
        now[0] += seconds
        progress.add(count)
    assert lines == [
        "prepare: 20/100 images, 2.0 images/s, 40 s left",
        "prepare: 100/100 images, 2.1 images/s, 0 s left",
    ]
    assert [encoding._tell_time(s) for s in (0.4, 119, 600, 90_000)] == [
        "0 s", "2 min", "10 min", "25.0 h"
    ]  # fmt: skip


def test_one_forward_takes_even_shares_of_a_shard():
    from zeroseg_jax import teacher
    from zeroseg_jax.teacher import encode_bank as encoding

    clip = teacher.load("playground")
    devices = jax.local_device_count()
    for views in (5, 14, 30, 84, 4000):
        count = encoding.count_at_once(clip, views)
        groups = -(-bank.SHARD_IMAGES // count)
        assert count % devices == 0 and groups * count < bank.SHARD_IMAGES * 1.25


def test_views_split_over_devices_are_the_same_features():
    from zeroseg_jax import teacher
    from zeroseg_jax.teacher.views import build_encoder

    clip = teacher.load("playground")
    rng = np.random.default_rng(0)
    one, all_of_them = build_encoder(clip), build_encoder(clip, jax.local_devices())
    assert jax.local_device_count() == 8
    for images, devices in ((4, 4), (8, 8), (3, 1)):
        views = rng.integers(0, 256, (images, 5, 48, 48, 3), dtype=np.uint8)
        found = all_of_them(views)
        assert len(found.sharding.device_set) == devices
        # Products of other shapes are summed in another order.
        np.testing.assert_allclose(found, one(views), rtol=1e-5, atol=1e-5)


def test_folder_with_bad_files_loses_nothing_silently(tmp_path, monkeypatch):
    from zeroseg_jax import teacher
    from zeroseg_jax.commands import prepare

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
    clip = teacher.load("playground")
    manifest = prepare.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    assert manifest["records"] == 3 and len(manifest["skipped"]) == 2
    source = bank.BankSource(tmp_path / "bank")
    assert [source[i]["name"] for i in range(3)] == ["a.jpg", "c.png", "e.JPG"]
    assert any("b.jpg" in line and "empty" in line for line in lines)
    assert "5 of 5 images" in lines[0] and "5 views" in lines[0]
    assert "MB needed" in lines[0] and "MB free" in lines[0]
    assert manifest["views"] == 5 and manifest["images"] == 5
    assert manifest["teacher"] == clip.digest and manifest["dtype"] == "float16"
    assert [entry["index"] for entry in manifest["skipped"]] == [1, 3]
    # A file more moves the index of those behind it: another bank.
    Image.fromarray(pixels).save(folder / "aa.png")
    with pytest.raises(bank.BankError, match="begun with images = 5, but now it is 6"):
        prepare.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    (folder / "c.png").unlink()
    with pytest.raises(bank.BankError, match="begun with names = "):
        prepare.prepare_bank(config, tmp_path / "bank", clip, lines.append)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ValueError, match="the bank needs .* GB"):
        prepare.prepare_bank(config, tmp_path / "full", clip, lines.append)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        FolderSource(str(tmp_path))
    with pytest.raises(ValueError, match="is not a folder"):
        FolderSource(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="data.images: 0"):
        build_source(from_mapping({"data": {"images": 0}}))


def test_playground_source_is_a_pure_function_of_the_index():
    first, second = PlaygroundSource(0, 5, 32), PlaygroundSource(0, 9, 32)
    np.testing.assert_array_equal(first[3]["image"], second[3]["image"])
