"""Commands of `zeroseg`: help, examples, usage errors and exit codes."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags

from zeroseg_jax.commands import flags
from zeroseg_jax.commands import main as cli
from zeroseg_jax.commands.recipes import resolve_arguments

ROOT = Path(__file__).parent.parent.parent


def test_help_shows_an_example_of_each_command(zeroseg, capsys, monkeypatch):
    done = zeroseg("--help")
    assert done.returncode == 0
    for _, example in cli.VERBS.values():
        assert example in done.stdout
    monkeypatch.setattr(sys, "argv", ["zeroseg"])
    assert cli.main() == 2 and "usage:" in capsys.readouterr().out


def test_commands_are_the_modules_of_their_folder():
    folder = ROOT / "zeroseg_jax/commands"
    modules = {verb.replace("-", "_") for verb in cli.VERBS}
    assert modules == {p.stem for p in folder.glob("*.py")} - {
        "__init__", "main", "compute", "extras", "flag_errors", "flags", "recipes", "signals",
        "verbs",
    }  # fmt: skip


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_command_lists_its_flags(verb, capsys, monkeypatch):
    module, define = cli.load_verb(verb)
    assert callable(module.main)
    for arguments in ([verb, "--help"], ["help", verb]):
        monkeypatch.setattr(sys, "argv", ["zeroseg", *arguments])
        assert cli.main() == 0
        text = capsys.readouterr().out
        assert f"example: {cli.VERBS[verb][1]}" in text
        # Flags of one command must not stay defined for the next.
        assert [line.split()[0][2:] for line in text.split("flags:\n")[1].splitlines()
                if line.startswith("  --")] == list(flags.define_alone(define))  # fmt: skip


@pytest.mark.parametrize("verb", cli.VERBS)
def test_examples_name_flags_that_exist(verb):
    known = {"help", *flags.define_alone(cli.load_verb(verb)[1])}
    program, first, *arguments = shlex.split(cli.VERBS[verb][1].split(" > ")[0])
    assert (program, first) == ("zeroseg", verb)
    given = {a[2:].split("=")[0].split(".")[0] for a in arguments if a.startswith("--")}
    assert given <= known


@pytest.mark.parametrize("verb", cli.VERBS)
def test_examples_parse(verb):
    own = flags.define_alone(cli.load_verb(verb)[1])
    argv = shlex.split(cli.VERBS[verb][1].split(" > ")[0])[1:]
    if "config" in own and own["config"].flag_type() == "config object":
        # The recipe and the names of fields; its file is read by the command alone.
        argv = [a for a in resolve_arguments(argv) if not a.startswith("--config")]
        del own["config"]
    values = absl_flags.FlagValues()
    for name, flag in own.items():
        values[name] = flag
    assert values(argv)[0] == verb


def test_help_imports_no_large_package():
    """Help must appear at once: jax, transformers and the like take a second each."""
    large = ("jax", "flax", "optax", "chex", "transformers", "orbax", "grain", "tensorflow",
             "tensorflow_datasets", "torch", "scipy", "matplotlib")  # fmt: skip
    code = f"""
import sys
from zeroseg_jax.commands import main
sys.argv = ["zeroseg", "--help"]
assert main.main() == 0
assert "absl" not in sys.modules, "zeroseg --help imports absl"
for verb in main.VERBS:
    main.render_verb_help(verb)
    loaded = sorted(set({large!r}) & set(sys.modules))
    assert not loaded, f"zeroseg {{verb}} --help imports {{loaded}}"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_output_into_a_closed_pipe_is_no_error():
    script = f"{sys.executable} -m zeroseg_jax segment --help | true"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("segmnt",), "unknown command 'segmnt'; did you mean segment?"),
        (("segment",), "--words: missing; for example: zeroseg segment photo.jpg --words"),
        (("prepare",), "--config, --workdir: missing"),
        (("plan", "--workdir=a"), "--workdir: no such flag; known: help, candidates, config, "),
        (("segment", "--classes=a; b"), "no image given"),
        (("segment", "a.png", "--classes=a; a"), "a is given twice"),
        (
            ("segment", "a.png", "--classes=a", "--backgroud=1"),
            "--backgroud: no such flag; did you mean --background?",
        ),
        (("segment", "nowhere/*.png", "--classes=a"), "no image or video"),
        (("completion", "tcsh"), "bash, zsh"),
        (("-vv",), "unknown command '-vv'; known: --version, --help"),
        (("help", "segmnt"), "unknown command 'segmnt'; did you mean segment?"),
        # absl defines these for every program; no --help of a command lists them.
        (("segment", "--nologtostderr"), "--nologtostderr: no such flag"),
        (("segment", "--flagfile=a"), "--flagfile: no such flag"),
        (("segment", "a.png", "--words=a", "--device=gpu:x"), "'gpu:x' is not one of cpu, gpu"),
        (("segment", "a.png", "b.png", "--words=a", "--output=-"), "- takes one image"),
        (("train", "--config=playground", "--workdir=none",
          "--config.optim.base_rat=1"), "base_rate"),
        (("train", "--config=playground:defualt", "--workdir=none"),
         "no such variant; did you mean default?"),
        (("train", "--config=playground", "--workdir=none"),
         "prepare` with the same --config"),
        (("train", "--config=playground", "--workdir=none",
          "--config.model.mask_ratio=1.5"), "model.mask_ratio"),
        (("evaluate", "--workdir=none", "--output=none"), "is no folder and no known name"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_sentence_with_exit_code_2(zeroseg, arguments, sentence, tmp_path):
    done = zeroseg(*(a.replace("=none", f"={tmp_path / 'none'}") for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
