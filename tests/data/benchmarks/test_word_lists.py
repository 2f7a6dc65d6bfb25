"""Word lists: shipped ones have every class, malformed ones are one sentence."""

import pytest

from zeroseg_jax.data.benchmarks.word_lists import (
    WORDS,
    load_imagenet_words,
    load_words,
    read_words,
)

CLASSES = {"voc21": 21, "voc20": 20, "context60": 60, "context59": 59, "coco_object": 81,
           "coco_stuff171": 171, "ade150": 150, "cityscapes19": 19}  # fmt: skip


def test_bad_words_files(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(ValueError, match="missing"):
        read_words(path)
    path.write_text("")
    with pytest.raises(ValueError, match="empty"):
        read_words(path)
    path.write_bytes("kätzchen".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read_words(path)
    path.write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="2 lines, but there are 21 classes"):
        read_words(path, classes=21)
    with pytest.raises(ValueError, match="voc21.sclip"):
        load_words("voc21.sclap")


def test_shipped_words_have_a_line_for_every_class():
    stems = {path.stem for path in WORDS.glob("*.txt")} - {"imagenet1k"}
    assert {stem.split(".")[0] for stem in stems} == set(CLASSES)
    for stem in stems:
        assert len(load_words(stem)) == CLASSES[stem.split(".")[0]], stem
    for name, classes in CLASSES.items():  # the project's own lists have no word twice
        rows = read_words(WORDS / f"{name}.txt", classes=classes)
        assert all(word == word.strip() and "  " not in word for row in rows for word in row)


def test_published_words():
    counts = {name: sum(map(len, load_words(name))) for name in (
        "voc21.sclip", "voc20.sclip", "coco_object.sclip", "voc21.proxyclip",
        "coco_object.proxyclip", "voc21.clearclip", "context60.sclip", "ade150.sclip")}  # fmt: skip
    assert counts == {"voc21.sclip": 56, "voc20.sclip": 30, "coco_object.sclip": 113,
                      "voc21.proxyclip": 46, "coco_object.proxyclip": 97, "voc21.clearclip": 21,
                      "context60.sclip": 60, "ade150.sclip": 150}  # fmt: skip
    groupvit = load_words("voc21.groupvit")
    assert [groupvit[i][0] for i in (11, 16, 20)] == ["table", "plant", "monitor"]
    names = load_imagenet_words()
    assert len(names) == 1000 and len({row[0].casefold() for row in names.values()}) == 1000
    assert names["n02012849"][0] != names["n03126707"][0]  # two cranes
