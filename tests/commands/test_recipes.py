"""Recipes by name and by file from any folder; wrong ones and wrong fields in one sentence."""

import re
import subprocess
import sys

import pytest

from bench.endurance import settings as fuzz
from zeroseg_jax.commands.recipes import (
    RECIPES,
    check_override,
    find_recipe,
    list_recipes,
    resolve_arguments,
    shorten_recipe,
)


def test_names_and_files_lead_to_the_same_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = f"{RECIPES / 'photos.py'}:vit_b16"
    assert find_recipe("photos:vit_b16") == find_recipe(shipped) == shipped
    assert shorten_recipe(shipped) == "photos:vit_b16"
    assert {"photos", "imagenet", "clip_zss"} < set(list_recipes()) and "base" not in list_recipes()
    own = tmp_path / "own.py"
    own.write_text("def get_config():\n    pass\n")
    assert find_recipe("own.py") == shorten_recipe("own.py") == "own.py"
    given = ["zeroseg", "--config", "debug", "--config.optim.steps=3", "--", "--config=photo"]
    assert resolve_arguments(given)[1:] == ["--config", f"{RECIPES / 'debug.py'}", *given[3:]]
    assert resolve_arguments(["zeroseg", "-config=debug"])[1] == f"--config={RECIPES / 'debug.py'}"


@pytest.mark.parametrize(
    ("value", "content", "sentence"),
    [
        ("photo", None, "'photo' is not a shipped recipe; did you mean photos?"),
        ("", None, "'' is not a shipped recipe; known: clip_zss, debug"),
        ("configs/photos.py", None, "photos.py is not a file; .* did you mean --config=photos?"),
        ("a.py", b"def get_config(:\n", "a.py, line 1: invalid syntax; correct it"),
        ("a.py", b"x = 1\n", "a.py has no get_config"),
        ("a.py", b"\xff\xfe\x00", "a.py is not UTF-8 text"),
    ],
)
def test_wrong_recipes_are_one_sentence(tmp_path, monkeypatch, value, content, sentence):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / value).write_bytes(content)
    with pytest.raises(ValueError, match=f"^--config: .*{sentence}"):
        find_recipe(value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("optim.stepz", "no such field; did you mean --config.optim.steps?"),
        ("optm.steps", "no such field; did you mean --config.optim?"),
        ("optim", "a group of fields; set one of base_rate, "),
        ("optim.steps.x", "optim.steps has no fields; use --config.optim.steps=VALUE"),
        ("teacher.grids[0]", "no such field; did you mean --config.teacher.grids?"),
        ("teacher.grids.0", "teacher.grids has no fields"),
        ("", "no such field; known: name, objective"),
    ],
)
def test_wrong_fields_are_one_sentence(name, sentence):
    with pytest.raises(ValueError, match=re.escape(f"--config.{name}: {sentence}")):
        check_override(name)


RUN = """
import sys
from zeroseg_jax.commands import flags
def main(arguments):
    print(flags.recipe_name(), flags.read_config())
flags.run(main, flags.define_recipe)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--config=photos:small", "--config.optim.steps=7"], 0, "photos:small .*optim.steps': 7"),
        (["--config=none.py"], 2, "error: --config: get_config.. returns nothing"),
        (["--config=none.py", "--config.optim.steps=7"], 2, "error: --config: .* returns nothing"),
        (["--config=dict.py"], 2, "get_config.. of dict.py returns dict; return a ConfigDict"),
        (["--config=debug:small"], 2, "error: --config: this recipe has no variants"),
        (["--config=photos:vit"], 2, "error: --config=photos:vit: .* did you mean vit_b16"),
        (["--config=debug", "--config.optim.steps=many"], 2, "^error: optim.steps: 'many' is not"),
        (
            ["--config=debug", "--config.teacher.grids=x"],
            2,
            "^error: teacher.grids.0.: 'x' is not of",
        ),
        (["--config=lost.py"], 2, "error: --config: the recipe cannot be imported .*nowhere"),
    ],
)
def test_command_lines_from_an_empty_folder(tmp_path, arguments, code, said):
    for name, body in (("none", "pass"), ("dict", "return {}"), ("lost", "import nowhere")):
        (tmp_path / f"{name}.py").write_text(f"def get_config():\n    {body}\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    lines = (done.stdout if code == 0 else done.stderr).splitlines()
    assert re.search(said, lines[-1]) and "Traceback" not in done.stderr, done.stderr


def test_hostile_overrides_are_refused_in_one_sentence():
    """The long form, which also traces what is accepted, is bench/endurance/settings.py."""
    kinds = []
    for arguments in fuzz.list_cases(150, seed=3):
        verdict, config = fuzz.read_arguments(arguments)
        assert verdict.kind != "fault", (arguments, verdict.text)
        assert (config is not None) == (verdict.kind == "trainable")
        kinds.append(verdict.kind)
    assert 30 < kinds.count("refused") < 130


def test_what_is_accepted_is_traced():
    _, config = fuzz.read_arguments(["--config=debug", *fuzz.SHRUNK])
    traced = set()
    assert fuzz.check_training(config, traced).kind == "trainable" and len(traced) == 1
    arguments = ["--config=debug", "--config.optim.batch_global=1048576"]
    verdict = fuzz.run_case(arguments, traced)
    assert verdict.kind == "refused" and "optim.batch_global" in verdict.text
    few = fuzz.run_case(["--config=clip_zss:playground", "--config.clip_zss.regions.teacher_px=8",
                         "--config.clip_zss.labels.stride_px=8"], traced)  # fmt: skip
    assert few.kind == "refused" and "seed_windows: 6 tokens do not fit" in few.text, few
