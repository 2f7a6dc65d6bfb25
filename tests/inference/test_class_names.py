"""Class names as people type them."""

import pytest

from zeroseg_jax.inference.class_names import parse_classes, read_classes, to_classes


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("star; ring, hoop ;grass", [["star"], ["ring", "hoop"], ["grass"]]),
        ("dog, sofa", [["dog"], ["sofa"]]),
        ("dog", [["dog"]]),
        ("dog / puppy, sofa", [["dog", "puppy"], ["sofa"]]),
        ("dog\nsofa\r\n red car \n", [["dog"], ["sofa"], ["red car"]]),
        ("dog, cat\nsofa", [["dog"], ["cat"], ["sofa"]]),
        ("dog,, /sofa/ ,", [["dog"], ["sofa"]]),
        # A semicolon anywhere: commas join names, and a slash belongs to a name.
        ("ring, hoop;", [["ring", "hoop"]]),
        ("a;;b;", [["a"], ["b"]]),
        ("24/7 shop; ring,, hoop\ngrass", [["24/7 shop"], ["ring", "hoop"], ["grass"]]),
    ],
)
def test_text_and_strings_in_python_have_one_grammar(text, classes):
    assert parse_classes(text) == to_classes(text) == classes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no class name"),
        (" , / \n", "no class name"),
        ("a; a", "given twice"),
        ("a/b, b", "b is given twice"),
        ("Dog, grass, dog", "Dog and dog differ in case only"),
        ("a\tb", "control character"),
        (",".join(f"w{i}" for i in range(1001)), "1001 classes are more than 1000"),
    ],
)
def test_text_that_cannot_be(text, reason):
    with pytest.raises(ValueError, match=f"^words: .*{reason}"):
        parse_classes(text, "words")


def test_names_in_lists_are_taken_as_they_are():
    assert to_classes(["a, b", ("c/d", " e ")]) == [["a, b"], ["c/d", "e"]]


@pytest.mark.parametrize(
    ("content", "classes"),
    [
        ("dog, puppy\n# a comment\n\nred car\n", [["dog", "puppy"], ["red car"]]),
        ("dog; puppy\r\ncat/kitten\r\n", [["dog", "puppy"], ["cat", "kitten"]]),
        ("\ufeffdog, sofa\n", [["dog"], ["sofa"]]),  # one line: as on the command line
        ("dog, puppy; sofa", [["dog", "puppy"], ["sofa"]]),
    ],
)
def test_a_file_has_a_class_a_line(tmp_path, content, classes):
    path = tmp_path / "words.txt"
    path.write_bytes(content.encode())
    assert read_classes(f"@{path}") == classes


def test_files_of_words_that_cannot_be(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="words.txt is not UTF-8 text"):
        read_classes(f"@{path}")
    with pytest.raises(ValueError, match=r"words.txt is a file; write --words=@.*words.txt\."):
        read_classes(str(path))
    with pytest.raises(ValueError, match="nowhere.txt: No such file or directory; give"):
        read_classes("@nowhere.txt")
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="no class name"):
        read_classes(f"@{path}")
