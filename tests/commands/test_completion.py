"""Completion scripts, sourced by the shells they are for."""

import shutil
import subprocess

import pytest

from zeroseg_jax.commands import completion
from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.main import VERBS, load_verb


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_knows_commands_and_flags(zeroseg, shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = zeroseg("completion", shell)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "_zeroseg"
    script.write_text(done.stdout)
    if shell == "fish":
        subprocess.run(["fish", "--no-execute", script], check=True)
        for typed, want in (("seg", "segment"), ("train --config=pho", "--config=photos")):
            ask = f"source {script}; complete --do-complete 'zeroseg {typed}'"
            out = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True)
            assert want in [line.split("\t")[0] for line in out.stdout.splitlines()]
        return
    if shell == "zsh":
        subprocess.run(["zsh", "-n", script], check=True)
        assert "--classes" in done.stdout
        return
    # bash splits --flag=value into three words.
    for typed, want in (
        (["seg"], ["segment"]),
        (["segment", "--cl"], ["--classes"]),
        (["segment", "--refine", "=", "g"], ["guided"]),
        (["segment", "--refine", "="], ["guided", "pamr", "none"]),
        (["train", "--config", "=", "pho"], ["photos"]),
        (["evaluate", "--benchmark", "=", "voc"], ["voc21", "voc20"]),
        (["evaluate", "--preset", "=", "zero"], ["zeroseg"]),
        (["segment", "--model", "=", "playg"], ["playground"]),
    ):
        words = " ".join(["zeroseg", *typed])
        ask = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _zeroseg; "
        out = subprocess.run(
            ["bash", "-c", ask + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True
        )
        assert out.stdout.split() == want, out.stderr


def test_every_command_has_its_flags_and_values_in_fish():
    lines = completion.render_script("fish").splitlines()
    assert all(line.startswith("complete -c zeroseg ") for line in lines[1:])
    for verb in VERBS:
        own = [line for line in lines if f"__fish_seen_subcommand_from {verb}'" in line]
        names = {line.split(" -l ")[1].split()[0] for line in own}
        assert names == {"help", *define_alone(load_verb(verb)[1])}
    (refine,) = [line for line in lines if " -l refine " in line]
    assert refine.endswith("-x -a 'guided pamr none'")
    (cutout,) = [line for line in lines if " -l cutout " in line]
    assert not cutout.endswith(" -r")  # takes no value
    (words,) = [line for line in lines if " -l words " in line and "segment'" in line]
    assert r"class names: \'dog/puppy" in words and words.endswith(" -r")
