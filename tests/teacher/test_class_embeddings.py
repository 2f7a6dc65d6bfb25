"""Class embeddings: averages over names and prompts, and the cache on disk."""

import shutil

import numpy as np
import pytest

from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.teacher.prompts import PROMPTS


def test_class_embeddings_average_names_and_prompts():
    clip = load_teacher("playground")
    words = [["star"], ["ring", "circle"]]
    found = embed_classes(clip, words, "playground")
    assert found.class_ids.tolist() == [0, 1, 1]

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    names = []
    for name in ("star", "ring", "circle"):
        rows = unit(clip.encode_texts([p.format(name) for p in PROMPTS["playground"]]))
        names.append(rows.mean(axis=0))
    np.testing.assert_allclose(found.names, unit(np.stack(names)), atol=1e-6)
    expected = unit(np.stack([names[0], (names[1] + names[2]) / 2]))
    np.testing.assert_allclose(found.classes, expected, atol=1e-6)
    for bad, prompts, sentence in (
        ([["star"]], "nope", "'nope' is not one of"),
        ([["star"], []], "simple", r"class 1 is \[\]; give a list"),
        (["star", "ring"], "simple", "class 0 is 'star'; give a list"),
        ([["star", " "]], "simple", "class 0 is .*not blank"),
        ([["star", 3]], "simple", "class 0 is .*not blank"),
        ([], "simple", "the list is empty"),
        ([["w"]] * 10_000, "simple", "10000 names are more than 5000"),
        ([["w"] * 10_000], "simple", "10000 names are more than 5000"),
    ):
        with pytest.raises(ValueError, match=sentence):
            embed_classes(clip, bad, prompts)


def test_the_cache_is_used_and_never_for_another_teacher(tmp_path, monkeypatch):
    clip = load_teacher("playground")
    words = [["star"], ["ring", "circle"]]
    first = embed_classes(clip, words, "simple", tmp_path)
    paths = set(tmp_path.iterdir())
    assert len(paths) == 3  # one a name

    def refuse(texts):
        raise AssertionError(f"the text tower ran on {texts}")

    monkeypatch.setattr(clip, "encode_texts", refuse)
    again = embed_classes(clip, words, "simple", tmp_path)
    for field in ("classes", "names", "class_ids"):
        np.testing.assert_array_equal(getattr(again, field), getattr(first, field))
    # Another order is found; one more name runs the text tower for that name alone.
    turned = embed_classes(clip, [["circle"], ["star", "ring"]], "simple", tmp_path)
    np.testing.assert_array_equal(turned.names, first.names[[2, 0, 1]])
    with pytest.raises(AssertionError, match=r"ran on \['a photo of a dog.'\]"):
        embed_classes(clip, [*words, ["dog"]], "simple", tmp_path)
    # Other prompts or teachers have other files.
    with pytest.raises(AssertionError, match="text tower ran"):
        embed_classes(clip, words, "subset", tmp_path)
    monkeypatch.setitem(clip.__dict__, "digest", "0" * 64)
    with pytest.raises(AssertionError, match="text tower ran"):
        embed_classes(clip, words, "simple", tmp_path)
    # A file of the right name and another teacher's content is refused.
    monkeypatch.setattr(clip, "encode_texts", load_teacher("playground").encode_texts)
    embed_classes(clip, [["star"]], "simple", tmp_path)
    (other,) = set(tmp_path.iterdir()) - paths
    shutil.copy(min(paths), other)
    with pytest.raises(ValueError, match="is of another teacher"):
        embed_classes(clip, words, "simple", tmp_path)
    other.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        embed_classes(clip, words, "simple", tmp_path)


def test_the_cache_lies_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "zeroseg_jax" / "words"
