"""Endurance tests in bench/: what they call a fault, and the table that they write."""

import itertools

import pytest

from bench.endurance import everything
from bench.endurance.kills import COMMANDS, Command, kill_command


def test_another_result_is_a_fault(tmp_path):
    numbers = itertools.count()
    command = Command((("--version",),), lambda folder: {"number": next(numbers)}, 0)
    with pytest.raises(AssertionError, match="killed-0: number differs from the undisturbed run"):
        kill_command(command, tmp_path, 0)


def test_equal_results_are_counted(tmp_path):
    command = Command((("--version",), ("--version",)), lambda folder: {"a": 1, "b": 2}, 0)
    found = kill_command(command, tmp_path, 0)
    assert found["kills"] == 0 and found["runs"] == 1 and found["compared"] == 2


@pytest.mark.parametrize(
    ("arguments", "refused", "message"),
    [
        (("nonsense",), "", "exit code 2: error: unknown command"),
        (("train",), "another sentence", "exit code 2: error: --config, --workdir: missing"),
    ],
)
def test_an_exit_code_is_a_fault(tmp_path, arguments, refused, message):
    command = Command((arguments,), lambda folder: {"a": 1}, 0, refused=refused)
    with pytest.raises(AssertionError, match=message):
        kill_command(command, tmp_path, 0)


def test_every_command_is_killed_and_forty_times_in_all():
    assert sum(command.kills for command in COMMANDS.values()) >= 40
    killed = {words[0] for command in COMMANDS.values() for words in command.runs}
    assert killed >= {"prepare", "train", "sweep", "evaluate", "export", "segment"}
    assert sum(row[1] in COMMANDS for row in everything.ROWS) == len(COMMANDS)
    assert not any("," in name for name in COMMANDS)  # --commands is a list with commas


def test_the_table_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    marks = "<!-- endurance: begin -->\n<!-- endurance: end -->\n"
    page.write_text(f"# Before\n\n{marks}\nAfter.\n")
    row = {"phase": "kills", "row": "train", "result": "8 kills | all", "seconds": 12.5}
    content = {
        "rows": [row], "seconds": 12.5, "commit": "0123456789", "machine": "x86_64, 2 cores",
        "python": "3.11.7", "packages": {"jax": "1", "flax": "2", "orbax-checkpoint": "3"},
    }  # fmt: skip
    for _ in range(2):  # the second time replaces the first
        everything.write_table(content, page)
    text = page.read_text()
    assert text.startswith("# Before\n\n<!--") and text.endswith("-->\n\nAfter.\n")
    assert text.count("kills") == 2 and "| kills | train | 8 kills \\| all | 12.50 |" in text
    assert "Commit 0123456, x86_64, 2 cores, Python 3.11.7, jax 1" in text
