"""Errors and exit codes of flags.run, and flags that are defined for a moment."""

import sys

import pytest
from absl import flags as absl_flags

from zeroseg_jax.commands import flags


def run(monkeypatch, main, *arguments):
    """Run `main` as a command without flags; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["zeroseg test", *arguments])
    with pytest.raises(SystemExit) as exit_:
        flags.run(main, lambda: None, "zeroseg test FILE")
    return exit_.value.code


def raising(error):
    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("--top: 0 is\n  too small; use 1."), 2, "error: --top: 0 is too small; use 1."),
        (FileNotFoundError(2, "No such file", "a.png"), 2, "No such file: 'a.png'"),
    ],
)
def test_user_errors_are_one_line(monkeypatch, capsys, error, code, sentence):
    assert run(monkeypatch, raising(error)) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and sentence in lines[0]


def test_other_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["zeroseg test"])
    with pytest.raises(ZeroDivisionError):
        flags.run(raising(ZeroDivisionError()), lambda: None)


def test_exit_code_and_arguments_are_those_of_the_command(monkeypatch):
    seen = []
    assert run(monkeypatch, lambda arguments: seen.extend(arguments), "a", "--", "--b") == 0
    assert seen == ["a", "--b"]
    assert run(monkeypatch, lambda arguments: 1) == 1


def test_an_unknown_flag_names_the_nearest_of_the_command(monkeypatch, capsys):
    code = run(monkeypatch, lambda arguments: 0, "--zeroseg_unknown=1")
    assert code == 2 and "--zeroseg_unknown: no such flag; known: help." in capsys.readouterr().err


def test_flags_defined_alone_are_removed_again():
    def define():
        absl_flags.DEFINE_integer("zeroseg_number", 3, "number of things")

    for _ in range(2):
        (flag,) = flags.define_alone(define).values()
        assert (flag.name, flag.default) == ("zeroseg_number", 3)
    assert "zeroseg_number" not in absl_flags.FLAGS
