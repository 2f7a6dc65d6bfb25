"""The bank: records, shards, the manifest, and sources of images."""

import numpy as np
import pytest

from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.data.sources import FolderSource, PlaygroundSource, build_source


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
