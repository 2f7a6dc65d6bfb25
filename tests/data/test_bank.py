"""Shards and manifests of a bank: whole or absent, and refused by name where they do not fit."""

import os
import resource

import numpy as np
import pytest

from zeroseg_jax.data import bank, bank_checks, files
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


def shard(directory, number=0):
    return directory / f"shard-{number:05d}.arrayrecord"


def test_an_empty_shard_is_not_complete(tmp_path):
    write(tmp_path, 1)
    assert bank.has_shard(tmp_path, 0)
    content = shard(tmp_path).read_bytes()
    for cut in (0, 100, len(content) - 1):
        shard(tmp_path).write_bytes(content[:cut])  # as a power cut may leave it
        assert not bank.has_shard(tmp_path, 0)
    shard(tmp_path).write_bytes(content)
    shard(tmp_path).with_suffix(".json").write_text("[]")
    assert not bank.has_shard(tmp_path, 0)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:70_000]),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(shard(path.parent, 0).read_bytes()),
    ],
    ids=["flip", "empty", "cut", "zeros", "missing", "foreign"],
)
@pytest.mark.parametrize("age", ["new", "old"])
def test_every_damage_names_the_shard_and_the_remedy(tmp_path, damage, age):
    manifest = write(tmp_path, 3)
    if age == "old":  # made before manifests had sums
        del manifest["sha256"]
        files.write_json(tmp_path / "manifest.json", manifest)
    source = bank.BankSource(tmp_path)  # good so far, and checked
    assert len(source) == 9 and bool(source.notes) == (age == "old")
    damage(shard(tmp_path, 1))
    with pytest.raises(BankError) as caught:
        source = bank.BankSource(tmp_path)
        _ = [source[i] for i in range(len(source))]
        assert damage is flip and age == "old"  # a flip in the padding is no damage
        raise BankError(f"{shard(tmp_path, 1)}: delete shard-00001.arrayrecord and run")
    assert str(caught.value).startswith(f"{shard(tmp_path, 1)}: ")
    assert "delete shard-00001.arrayrecord and run `zeroseg prepare` again" in str(
        caught.value
    ) or (damage is flip and age == "old")


def test_swapped_shards_are_noticed(tmp_path):
    write(tmp_path, 2)
    first, second = shard(tmp_path, 0).read_bytes(), shard(tmp_path, 1).read_bytes()
    shard(tmp_path, 0).write_bytes(second)
    shard(tmp_path, 1).write_bytes(first)
    with pytest.raises(BankError, match=r"shard-00000.arrayrecord: not the shard that was written"):
        bank.BankSource(tmp_path)
    manifest = files.read_json(tmp_path / "manifest.json")
    del manifest["sha256"]
    files.write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(BankError, match=r"shard-00001.arrayrecord: record 0 follows record 5"):
        bank.BankSource(tmp_path)


def test_a_shard_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    write(tmp_path, 2)
    read = []
    digest = bank_checks.digest_file
    monkeypatch.setattr(bank_checks, "digest_file", lambda path: read.append(path) or digest(path))
    bank.BankSource(tmp_path)
    assert sorted(read) == [shard(tmp_path, 0), shard(tmp_path, 1)]
    bank.BankSource(tmp_path)
    assert len(read) == 2
    os.utime(shard(tmp_path, 1))
    bank.BankSource(tmp_path)
    assert read[2:] == [shard(tmp_path, 1)]
    (tmp_path / ".checked.json").write_text("[")
    bank.BankSource(tmp_path)
    assert len(read) == 5


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "null", "3", '"a"', "{}", '{"format": 1}', '{"format": 1, "shards": "1"}',
     '{"format": 1, "shards": null, "records": 3}', '{"format": 1, "shards": true, "records": 3}',
     '{"format": 1, "shards": 1, "records": 3, "sha256": 5}', "[" * 100_000, "\x00"],
)  # fmt: skip
def test_any_manifest_is_one_sentence(tmp_path, content):
    write(tmp_path, 1)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest.json: .*prepare it again\.$"):
        bank.BankSource(tmp_path)


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


def test_damaged_shards_of_an_unfinished_bank_are_found_by_their_content(tmp_path):
    write(tmp_path, 3)
    (tmp_path / "manifest.json").unlink()
    assert bank.verify_shards(tmp_path, [0, 1, 2]) == []
    flip(shard(tmp_path, 1))
    assert bank.has_shard(tmp_path, 1)  # of the right size
    for _ in range(2):
        assert bank.verify_shards(tmp_path, [0, 1, 2]) == [1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_named(tmp_path, value):
    features = np.zeros((5, 2), np.float16)
    good = encode_record(0, "a.jpg", np.zeros((4, 4, 3), np.uint8), features)
    features[3, 1] = value
    with pytest.raises(BankError, match=r"b.jpg \(image 1\): a feature .* NaN or infinite"):
        encode_record(1, "b.jpg", np.zeros((4, 4, 3), np.uint8), features)
    # A record that another program wrote.
    bank.begin_bank(tmp_path, {})
    bank.write_shard(tmp_path, 0, [good, good[: -features.nbytes] + features.tobytes()], [])
    bank.finish_bank(tmp_path, 1, {})
    source = bank.BankSource(tmp_path)
    assert source[0]["name"] == "a.jpg"
    with pytest.raises(BankError, match=r"shard-00000.arrayrecord: damaged \(record 1, a.jpg: "):
        source[1]
