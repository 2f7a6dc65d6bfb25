"""Completion scripts, sourced by the shells they are for."""

import shutil
import subprocess

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_flags(zeroseg, shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = zeroseg("completion", shell)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "_zeroseg"
    script.write_text(done.stdout)
    if shell == "zsh":
        subprocess.run(["zsh", "-n", script], check=True)
        assert "--classes" in done.stdout
        return
    for typed, want in ((["seg"], ["segment"]), (["segment", "--cl"], ["--classes"])):
        words = " ".join(["zeroseg", *typed])
        ask = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _zeroseg; "
        out = subprocess.run(
            ["bash", "-c", ask + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True
        )
        assert out.stdout.split() == want, out.stderr
