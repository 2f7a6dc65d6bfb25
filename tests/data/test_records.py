"""Records of the bank, byte by byte against the layout that their module describes."""

import struct

import numpy as np
import pytest

from zeroseg_jax.data import records


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_bank_record(dtype):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
    features = rng.normal(size=(3, 7)).astype(dtype)
    record = records.encode_record(9, "café.jpg", image, features)
    name, size = "café.jpg".encode(), features.itemsize
    header = struct.pack("<4sQHHHHHB", b"ZSB1", 9, len(name), 5, 6, 3, 7, size)
    numbers = struct.pack(f"<21{'e' if size == 2 else 'f'}", *features.ravel().tolist())
    assert record == header + name + bytes(image.ravel().tolist()) + numbers
    found = records.decode_record(record)
    assert (found["index"], found["name"]) == (9, "café.jpg")
    np.testing.assert_array_equal(found["image"], image)
    np.testing.assert_array_equal(found["features"], features)
    assert found["features"].dtype == dtype and found["image"].dtype == np.uint8


def test_region_record():
    fused = np.arange(36).reshape(6, 6).astype(np.int16) - 1
    local = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float16)
    record = records.encode_regions(fused, local, {"regions": 3})
    text = b'{"regions": 3}'
    header = struct.pack("<4sHHHH", b"ZSR1", 6, 4, 8, len(text))
    maps = struct.pack("<36h32e", *fused.ravel().tolist(), *local.ravel().tolist())
    assert record == header + maps + text
    found = records.decode_regions(record)
    np.testing.assert_array_equal(found["fused"], fused)
    np.testing.assert_array_equal(found["local"], local)
    assert found["stats"] == {"regions": 3}
    assert found["fused"].dtype == np.int16 and found["local"].dtype == np.float16
    empty = records.decode_regions(records.encode_regions(fused, local[:0], {}))
    assert empty["local"].shape == (0, 8) and empty["stats"] == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dense_record(dtype):
    dense = np.random.default_rng(0).normal(size=(4, 3)).astype(dtype)
    record = records.encode_dense("a", dense)
    header = struct.pack("<4sHHB", b"ZSD1", 4, 3, dense.itemsize)
    numbers = struct.pack(f"<12{'e' if dense.itemsize == 2 else 'f'}", *dense.ravel().tolist())
    assert record == header + numbers
    sizes = [records.count_record_bytes(6, 5, 3, np.dtype(dtype).name, n) for n in (0, 4)]
    assert len(record) == sizes[1] - sizes[0]
    found = records.decode_dense(record)["dense"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, dense)
    dense[2, 1] = np.inf
    with pytest.raises(records.BankError, match="a: a feature of the teacher is NaN or infinite"):
        records.encode_dense("a", dense)


def test_record_size_is_as_estimated():
    image, features = np.zeros((6, 6, 3), np.uint8), np.zeros((5, 4), np.float16)
    record = records.encode_record(0, "", image, features)
    assert len(record) == records.count_record_bytes(6, 5, 4, "float16")


def test_foreign_and_damaged_records_are_refused():
    image, features = np.zeros((6, 6, 3), np.uint8), np.zeros((5, 4), np.float16)
    bank = records.encode_record(0, "a", image, features)
    regions = records.encode_regions(np.zeros((2, 2), np.int16), features, {})
    for decode, own, other in (
        (records.decode_record, bank, regions),
        (records.decode_regions, regions, bank),
        (records.decode_dense, records.encode_dense("a", features), regions),
    ):
        decode(own)
        for foreign in (other, b"", own[:7]):
            with pytest.raises(records.BankError, match="begins with .*; prepare it again"):
                decode(foreign)
        for damaged in (own[:-1], own + b"x"):
            with pytest.raises(
                records.BankError, match=r"has \d+ bytes instead of .*; prepare it again"
            ):
                decode(damaged)
