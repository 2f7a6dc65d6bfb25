"""Shards and manifests of a bank: whole or absent, and refused by name where they do not fit."""

import resource

import numpy as np
import pytest

from zeroseg_jax.data import bank
from zeroseg_jax.data.records import BankError, encode_record


def write(directory, shards, skipped=()):
    settings = {"teacher": "abc", "grids": [1, 2]}
    bank.begin_bank(directory, settings)
    for shard in range(shards):
        records = [
            encode_record(shard * 3 + i, f"{shard}-{i}", np.full((4, 4, 3), i, np.uint8),
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
    with pytest.raises(BankError, match="begun with grids"):
        bank.begin_bank(tmp_path, {"teacher": "abc", "grids": [1, 3]})
    manifest = bank.read_manifest(tmp_path)
    with pytest.raises(BankError, match="bank: teacher is 'abc' there but 'x'"):
        bank.check_manifest(manifest, {"teacher": "x"})
    manifest["source"] = {"kind": "folder", "directory": "a"}
    bank.check_manifest(manifest, {"source": {"kind": "folder", "directory": "a"}})
    with pytest.raises(BankError, match="bank: source.directory is 'a' there but 'b'"):
        bank.check_manifest(manifest, {"source": {"kind": "folder", "directory": "b"}})


def test_a_full_disk_leaves_no_shard(tmp_path):
    bank.begin_bank(tmp_path, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write to .*File too large.*another folder"):
            bank.write_shard(tmp_path, 0, [bytes(50_000)] * 4, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not bank.has_shard(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_damaged_manifest_or_summary_is_one_sentence(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "manifest.json").write_text('{"format"')
    with pytest.raises(ValueError, match="manifest.json: not valid JSON .*; prepare it again"):
        bank.BankSource(tmp_path)
    (tmp_path / "shard-00000.json").write_text("")
    with pytest.raises(ValueError, match="the file is empty; delete .*shard-00000.arrayrecord"):
        bank.finish_bank(tmp_path, 1, {})


def test_no_bank_says_what_to_run(tmp_path):
    with pytest.raises(BankError, match="zeroseg prepare"):
        bank.BankSource(tmp_path)
