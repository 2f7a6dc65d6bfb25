"""Commands and examples of README.md and the pages: parsed, run, their words found."""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroseg_jax import Predictor
from zeroseg_jax.commands import main as cli
from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.recipes import check_override, find_recipe
from zeroseg_jax.data.playground import scenes
from zeroseg_jax.inference.class_names import to_classes
from zeroseg_jax.inference.web.server import EXAMPLES

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/quick-start.md", "docs/own-folder.md", "docs/export.md")
_SMALL = ("--config.optim.steps=2", "--config.optim.batch_global=4")
# What a reader puts in, and what the test does.
_STAND_INS = {
    "FOLDER": "pictures", "CLIP": "clip", "PHOTO.jpg": "photo.jpg", "512": "128",
    "DIR": "runs/photos",
}  # fmt: skip


def read_commands(page):
    """List the commands of a page's fenced blocks, continued lines joined."""
    found = []
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    for block in (text for language, text in blocks if language in ("", "bash", "sh")):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split("  #")[0].strip()
            found += [part.strip() for part in line.split("&&") if part.strip()]
    return found


def to_arguments(command):
    """Turn a zeroseg command into (verb, arguments) with stand-ins; None for another program."""
    words = shlex.split(command)
    if Path(words[0]).name == "zeroseg":
        verb, arguments = words[1], words[2:]
    elif words[1:3] == ["-m", "zeroseg_jax"]:
        verb, arguments = words[3], words[4:]
    else:
        return None
    replaced = []
    for argument in arguments:
        for placeholder, stand_in in _STAND_INS.items():
            argument = re.sub(rf"(?<![\w/]){re.escape(placeholder)}(?!\w)", stand_in, argument)
        replaced.append(argument)
    return verb, replaced


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("clone")
    for name in ("configs", "docs"):
        (root / name).symlink_to(ROOT / name)
    (root / "clip").symlink_to(ROOT / "zeroseg_jax" / "assets" / "clip")
    (root / "pictures").mkdir()
    for i in range(4):
        image = Image.fromarray(scenes.render(scenes.build_scene(0, i), 96)[0])
        image.save(root / "pictures" / f"{i}.png")
    image.save(root / "photo.jpg")
    return root


def run(place, verb, arguments):
    small = _SMALL if verb in ("prepare", "train") else ()
    command = [sys.executable, "-m", "zeroseg_jax", verb, *arguments, *small]
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    if verb != "serve":
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    with subprocess.Popen(
        [*command[:4], "--model=playground", "--port=0"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        lines = [server.stdout.readline(), server.stdout.readline()]
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert any("http://127.0.0.1:" in line for line in lines), lines
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.slow
def test_commands_run_in_the_order_of_the_pages(place):
    done = set()
    for page in PAGES:
        for command in read_commands(page):
            asked = to_arguments(command)
            if asked is None or "--format=stablehlo" in command:
                continue  # the next test; tests/test_export.py runs StableHLO's
            if asked[0] == "segment" and not any(a.startswith("--model=") for a in asked[1]):
                continue  # the default model: tests/test_photographs.py runs it with a hub
            key = (asked[0], *sorted(asked[1])) if asked[0] != "serve" else "serve"
            if key in done:
                continue
            done.add(key)
            result = run(place, *asked)
            assert result.returncode == 0, f"{page}: {command}\n{result.stderr}"
    assert {"prepare", "train", "segment"} <= {key[0] for key in done}


@pytest.mark.parametrize("page", PAGES)
def test_other_commands_are_known(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command in read_commands(page):
        if to_arguments(command) is not None:
            continue
        words = command.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[0].endswith("pip"):  # .ci/slow installs the wheel
            extras = re.search(r"\.\[([\w,]+)\]", command)
            assert not extras or set(extras[1].split(",")) <= set(project["optional-dependencies"])
        else:  # run.py is run by tests/test_export.py
            assert re.match(
                r"python3 -m venv|\. \.venv/bin/activate|cd shlo|python run\.py", command
            ), command


def list_all_commands():
    """Return (page, command) of every zeroseg command in blocks and text of all pages."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text().replace("\\\n", " ")
        blocks = re.findall(r"```(?:bash|sh|text)?\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        lines += re.findall(r"^    (zeroseg .+)$", text, re.MULTILINE)
        spans = re.findall(r"`(zeroseg [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        lines += [" ".join(span.split()) for span in spans]
        for line in lines:
            command = line.strip().split("  #")[0].split(" > ")[0].removeprefix(".venv/bin/")
            if re.match(r"zeroseg [a-z]", command):
                found.append((path.name, command))
    return found


def test_commands_of_all_pages_have_known_verbs_flags_recipes_and_fields():
    found = list_all_commands()
    assert len(found) >= 40
    for page, command in found:
        _, verb, *arguments = shlex.split(command)
        assert verb in cli.VERBS, f"{page}: {command}"
        known = define_alone(cli.load_verb(verb)[1])
        known |= {f"no{name}": flag for name, flag in known.items() if flag.boolean}
        for argument in arguments:
            name, _, value = argument.lstrip("[").removeprefix("--").partition("=")
            if not argument.lstrip("[").startswith("--"):
                continue
            if name.startswith("config."):
                check_override(name.removeprefix("config."))
            elif name == "config" and value.islower() and not value.endswith((".py", ".json")):
                find_recipe(value)
            assert name.split(".")[0].rstrip("]") in known, f"{page}: {command}: --{name}"


def list_scene_words():
    """Return the class names that README.md, the pages and the notebook ask of scene.png."""
    scene = re.escape("docs/images/scene.png")
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        found += re.findall(rf'segment {scene} [^\n]*--(?:words|classes) "([^"]+)"', text)
        found += re.findall(rf'{scene}",\s*(\[.+?\])\s*\)', text, re.DOTALL)
        if scene in re.escape(text):
            found += re.findall(r'"words": "([^"]+)"', text)
    return [ast.literal_eval(one) if one.startswith("[") else one for one in found]


def test_words_of_every_example_are_found():
    predictor = Predictor.from_pretrained("playground")
    asked = [to_classes(words) for words in list_scene_words()]
    assert len(asked) >= 6
    picture = Image.open(ROOT / "docs/images/scene.png")
    drawn = scenes.build_scene(scenes.EVALUATION_SEED, EXAMPLES[0][0])
    np.testing.assert_array_equal(scenes.render(drawn, picture.width)[0], picture)
    for words in (words for i, words in enumerate(asked) if words not in asked[:i]):
        result = predictor.segment(picture, words)
        assert all(one["area"] > 0.02 for one in result.classes), words
    names = [*scenes.SHAPES, *scenes.STUFF]
    for index, words in EXAMPLES:
        # Smaller than on the page, because refinement takes most of the time.
        image, labels = scenes.render(scenes.build_scene(scenes.EVALUATION_SEED, index), 256)
        truth = scenes.encode_scene(labels)
        result = predictor.segment(image, words)
        assert {names.index(name) for name in result.class_names} == set(np.unique(truth))
        for i, name in enumerate(result.class_names):
            given, true = result.mask == i, truth == names.index(name)
            assert (given & true).sum() > 0.7 * (given | true).sum(), (index, name)


@pytest.mark.parametrize("page", PAGES)
def test_verbs_named_in_text_are_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`(?:python -m zeroseg_jax |zeroseg )([a-z_]+)", text)
    assert set(named) <= set(cli.VERBS)
