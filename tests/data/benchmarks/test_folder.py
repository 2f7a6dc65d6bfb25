"""A user's own folder: valid ones are read, others are one sentence."""

import dataclasses

import layouts
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.masks import MaskError


def test_folder(tmp_path):
    raw = layouts.write_folder(tmp_path)
    benchmark = get_benchmark("folder", data_dir=tmp_path)
    layouts.check_labels(benchmark, raw, {0: 0, 1: 1, 2: 2, 255: -1})
    assert benchmark.words == (("cat",), ("dog", "hound"), ("grass",))
    assert len(get_benchmark("folder", data_dir=tmp_path, images=1)) == 1
    # Zero-label reduction, once: 0 is ignored and so is 255, which must not become 254.
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    reduced = get_benchmark("folder", data_dir=tmp_path, reduce_zero=True)
    layouts.check_labels(reduced, raw, {0: -1, 1: 0, 2: 1, 255: -1})
    (tmp_path / "words.txt").write_text("Background\ncat\n")
    other = get_benchmark("folder", data_dir=tmp_path, ignore=2)
    assert other.has_background and other.words == (("cat",),)
    with pytest.raises(MaskError, match="label 255 .* known labels: 0..2. .*--ignore is 2"):
        _ = other[0]
    assert dataclasses.replace(other, words=(("tiger",),)).words == (("tiger",),)


@pytest.mark.parametrize("line", ["_background_", "__Background__", "bg", "unlabeled"])
def test_background_as_label_tools_write_it(tmp_path, line):
    layouts.write_folder(tmp_path)
    (tmp_path / "words.txt").write_text(f"{line}\ncat\ndog\n")
    benchmark = get_benchmark("folder", data_dir=tmp_path)
    assert benchmark.has_background and benchmark.class_names == ("background", "cat", "dog")
    assert benchmark.words == (("cat",), ("dog",))


def test_hidden_files_and_folders_are_left_out(tmp_path):
    layouts.write_folder(tmp_path)
    before = get_benchmark("folder", data_dir=tmp_path).names
    (tmp_path / "images" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "images" / "__MACOSX").mkdir()
    (tmp_path / "images" / "._p0.jpg").write_bytes(b"Mac OS X")
    (tmp_path / "masks" / "._p0.png").write_bytes(b"Mac OS X")
    (tmp_path / "masks" / "p1.png").rename(tmp_path / "masks" / "p1.PNG")
    benchmark = get_benchmark("folder", data_dir=tmp_path)
    assert benchmark.names == before and not benchmark.listing.spare


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("rm masks/p1.png", {}, "p1.png: missing; see zeroseg verify"),
        ("rm masks/p0.png masks/p1.png", {}, "p0.png and 1 more files: missing"),
        ("rm images/p0.jpg images/p1.jpg", {}, "images: no image"),
        ("rm words.txt", {}, "words.txt: missing"),
        ("mkdir images/more", {}, "put images directly into"),
        ("touch images/p0.webp", {}, "shares its stem"),
        ("words cat//dog", {}, "line 2: a blank line"),
        ("words cat/ /dog", {}, "line 2: a blank line"),
        ("words cat/dog;;hound", {}, "line 2: a blank name"),
        ("words cat/dog; Cat", {}, "'Cat' is in line 1 and in line 2"),
        ("words cat/dog; dog", {}, "'dog' is in line 2 and in line 2"),
        ("words background", {}, "only a background is named"),
        ("words background/cat", {"reduce_zero": True}, "drop the line or the flag"),
        (f"words {'x' * 201}", {}, "201 letters"),
        ("", {"ignore": 2}, "2 is also the label of 'grass'"),
        ("", {"ignore": 3, "reduce_zero": True}, "3 is also the label of 'grass'"),
        ("", {"ignore": 70000}, "outside -1..65535"),
    ],
)
def test_bad_folders_are_one_sentence(tmp_path, change, options, message):
    layouts.write_folder(tmp_path)
    verb, _, rest = change.partition(" ")
    if verb == "words":
        (tmp_path / "words.txt").write_text(rest.replace("/", "\n"))
    for name in rest.split() if verb != "words" else ():
        path = tmp_path / name
        {"rm": path.unlink, "mkdir": path.mkdir, "touch": path.touch}[verb]()
    with pytest.raises(ValueError, match=message) as caught:
        get_benchmark("folder", data_dir=tmp_path, **options)
    assert "\n" not in str(caught.value)
