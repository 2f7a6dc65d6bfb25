"""The console script: verbs, help, completion, files and exit codes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax.commands import flags, segment
from zeroseg_jax.commands import main as cli
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.data.transforms import ImageError
from zeroseg_jax.inference import image_files as pictures

ROOT = Path(__file__).parent.parent


def zeroseg(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "zeroseg_jax", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    image = scenes.render(scenes.build_scene(2, 5), 96)[0]
    (root / "deep").mkdir()
    Image.fromarray(image).save(root / "a.png")
    Image.fromarray(image[:, ::-1]).save(root / "deep" / "a.jpg")
    (root / "notes.txt").write_text("no picture")
    return root


def test_help_shows_an_example_of_each_command(capsys, monkeypatch):
    done = zeroseg("--help")
    assert done.returncode == 0
    for _, example in cli.VERBS.values():
        assert example in done.stdout
    monkeypatch.setattr(sys, "argv", ["zeroseg"])
    assert cli.main() == 2 and "usage:" in capsys.readouterr().out


def test_commands_are_the_modules_of_their_folder():
    folder = ROOT / "zeroseg_jax/commands"
    assert set(cli.VERBS) == {p.stem for p in folder.glob("*.py")} - {"__init__", "main", "flags"}


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
        (("segment",), "--classes: missing; for example: zeroseg segment photo.jpg --classes"),
        (("prepare",), "--config, --workdir: missing"),
        (("plan", "--workdir=a"), "--workdir: no such flag; known: candidates, config, "),
        (("segment", "--classes=a; b"), "no image given"),
        (("segment", "a.png", "--classes=a; a"), "a stands twice"),
        (
            ("segment", "a.png", "--classes=a", "--backgroud=1"),
            "--backgroud: no such flag; did you mean --background?",
        ),
        (("segment", "nowhere/*.png", "--classes=a"), "no picture or video there"),
        (("completion", "fish"), "bash, zsh"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(arguments, sentence, tmp_path):
    done = zeroseg(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_segment_takes_folders_and_tells_areas_and_scores(folder, tmp_path):
    done = zeroseg(
        "segment", folder, "--classes=star; ring, hoop; grass", "--background=sky",
        f"--output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.glob("*.json")} == {"a.json", "a-2.json"}
    assert "word" in done.stdout and "score" in done.stdout and "2 written" in done.stdout
    record = json.loads((tmp_path / "a.json").read_text())
    assert [c["word"] for c in record["classes"]] == ["background", "star", "ring", "grass"]


def test_files_folders_and_globs(folder, tmp_path):
    names = [str(p.relative_to(folder)) for p in pictures.list_files([str(folder)])]
    assert names == ["a.png", "deep/a.jpg"]
    assert len(pictures.list_files([str(folder), str(folder / "**" / "*.jpg")])) == 2
    assert len(pictures.list_files([str(folder)], leave_out=folder / "deep")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no picture or video"):
        pictures.list_files([str(tmp_path / "empty")])


def test_frames_of_a_video(tmp_path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = list(pictures.read_pictures([path], every_seconds=1.0))
    assert [f.stem for f in found] == ["clip_00000000ms", "clip_00001000ms", "clip_00002000ms"]
    for number, one in enumerate(found):
        assert one.image.shape == (48, 64, 3)
        assert abs(int(one.image.mean()) - 100 * number) < 6
    assert len(list(pictures.read_frames(path, every_seconds=0))) == 25
    path.write_bytes(path.read_bytes()[:200])
    (bad,) = pictures.read_pictures([path])
    assert isinstance(bad.image, ImageError) and "clip.mp4" in str(bad.image)


def test_background_is_read_as_a_number_or_words():
    assert segment.read_background("") is None
    assert segment.read_background("0.4") == 0.4
    assert segment.read_background("wall; floor") == "wall; floor"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_verbs_and_flags(shell, tmp_path):
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
