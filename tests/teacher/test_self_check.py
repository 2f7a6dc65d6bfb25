"""Checks of a frozen CLIP: each verdict, on the CLIP that ships and on damaged copies."""

import hashlib
import shutil

import numpy as np
import pytest

from zeroseg_jax.data.files import read_json
from zeroseg_jax.teacher import self_check
from zeroseg_jax.teacher.aliases import ALIASES, Alias
from zeroseg_jax.teacher.load import SHIPPED, load_teacher
from zeroseg_jax.teacher.model_names import Located

TEXTS = ["a star", "a ring", "two hearts", "grass", "sky", "a red star"]


@pytest.fixture(scope="module")
def found():
    return self_check.measure(load_teacher(SHIPPED), TEXTS)


def test_checksums_are_those_of_the_alias_or_of_the_cache(tmp_path):
    weights = shutil.copytree(SHIPPED, tmp_path / "clip") / "model.safetensors"
    assert self_check.check_sums(Located(weights.parent, "x"))[0] is None
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for recorded, wanted in ((digest, True), ("0" * 64, False)):
        alias = Alias("o/n", "main", 1, "MIT", sha256={"model.safetensors": recorded})
        assert self_check.check_sums(Located(weights.parent, "x", alias=alias))[0] is wanted
    blob = tmp_path / digest
    weights.rename(blob)
    weights.symlink_to(blob)
    assert self_check.check_sums(Located(weights.parent, "x"))[0] is True
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    verdict, text = self_check.check_sums(Located(weights.parent, "x"))
    assert verdict is False and "delete the file" in text


def test_tokens_and_cosines_are_compared_with_the_record(found):
    assert self_check.check_tokens(found, {})[0] is None
    assert self_check.check_cosines(found, {})[0] is None
    assert self_check.check_tokens(found, found) == (True, "6 of 6 texts agree")
    assert self_check.check_cosines(found, found)[0] is True
    other = {**found, "tokens": [ids[:-1] for ids in found["tokens"]]}
    assert self_check.check_tokens(found, other)[0] is False
    moved = np.array(found["image"])
    moved[2] += 0.01
    assert self_check.check_cosines(found, {**found, "image": moved.tolist()})[0] is False


def test_measured_numbers_are_the_teachers(found):
    clip = load_teacher(SHIPPED)
    rows = clip.encode_texts(TEXTS)
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    np.testing.assert_allclose(found["texts"], rows @ rows.T, atol=1e-4)
    # A text ends with its first end token: padding is not part of it.
    ends = {ids[-1] for ids in found["tokens"]}
    assert len(ends) == 1 and all(ids.count(ids[-1]) == 1 for ids in found["tokens"])


def test_records_are_of_known_models():
    records = read_json(self_check.RECORDS)
    assert len(records["texts"]) == 6 and set(records["models"]) <= set(ALIASES)
    for record in records["models"].values():
        assert all(ids[0] == 49406 and ids[-1] == 49407 for ids in record["tokens"])
