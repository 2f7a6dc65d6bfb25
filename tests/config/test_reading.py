"""Settings: unknown, wrong and impossible ones are one sentence that names the field."""

import dataclasses
import functools
import json
import math
import random
import re
import typing
from pathlib import Path

import pytest
from building import check_dense_student, check_student

from zeroseg_jax.config import (
    OLD_NAMES,
    Config,
    ConfigError,
    LabelsConfig,
    explain_text,
    from_mapping,
    rename_old,
    to_mapping,
)
from zeroseg_jax.teacher.prompts import PROMPTS

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optim": {"weight_decai": 1.0}}, "optim.weight_decai: .*optim.weight_decay"),
        ({"modle": {}}, "modle: .*model"),
        ({"optim": {"steps": "many"}}, "optim.steps: 'many' is not of type int"),
        ({"model": 3}, "model: 3 is not a group"),
        ({"model": {"mask_ratio": 1.0}}, "model.mask_ratio: 1.0"),
        ({"model": {"image_px": 225}}, "model.image_px: 225 .* 16"),
        ({"model": {"encoder": {"heads": 7}}}, "model.encoder.width: 768 .* 7"),
        ({"model": {"encoder": {"activation": "relu"}}}, "model.encoder.activation: 'relu'"),
        ({"model": {"head": {"stage_depths": (2, 2)}}}, "model.head.stage_depths"),
        ({"teacher": {"grids": (2, 3)}}, "teacher.grids: .* begin with 1"),
        ({"teacher": {"grids": (1, 1)}}, "teacher.grids: .* holds a grid twice"),
        ({"teacher": {"grids": (1,)}}, "teacher.grids: .* no regions to match"),
        ({"teacher": {"grids": (1, 500)}}, "teacher.grids.1.: 500 is out of range"),
        ({"data": {"source": "folder"}}, "data.directory: empty"),
        ({"data": {"source": "zip"}}, "data.source: 'zip' is not one of playground, folder"),
        ({"mesh": {"data": 0}}, "mesh.data: 0 copies .* use -1"),
        ({"mesh": {"fsdp": 0}}, "mesh.fsdp: 0 is out of range; .* at least 1"),
        ({"mesh": {"tensor": 5}}, "mesh.tensor: 5 does not divide model.encoder.heads 12"),
        ({"run": {"remat": "all"}}, "run.remat: 'all' is not one of none, dots, full"),
        ({"optim": {"accumulate_steps": 0}}, "optim.accumulate_steps: 0 is out of range"),
        ({"optim": {"batch_global": 0}}, "optim.batch_global: 0 .* at least 1 and at most 1048576"),
        ({"loss": {"cell": -1.0}}, "loss.cell: -1.0 .* at least 0 and at most 10000"),
        ({"optim": {"warmup_fraction": 1.0}}, "optim.warmup_fraction: 1.0 .* below 1"),
        ({"optim": {"steps": 0, "epochs": 0}}, "optim.steps: 0 with optim.epochs=0"),
        ({"data": {"images": 0}}, "data.images: 0 means all"),
        ({"loss": dict.fromkeys(("reconstruction", "distillation", "matching"), 0)}, "loss: every"),
        ({"model": {"encoder": {"patch_px": 1}, "image_px": 4096}}, "model.image_px: 4096 holds"),
        ({"data": {"mean": (0.5, 0.5)}}, "data.mean: .* list of 3 numbers"),
        ({"teacher": {"directory": ""}}, "teacher.directory: '' is empty"),
        ([], "config: .* is not a group of fields"),
        (
            {"objective": "clip_zss", "clip_zss": {"loss": {"local_weight": 1.0, "latent": False}}},
            "clip_zss.loss.local_weight: 1 distils latent regions",
        ),
        ({"zss": 3}, "zss: 3 is not a group of fields"),
        ({"clip_zss": 3, "zss": {"split": "none"}}, "clip_zss: 3 is not a group of fields"),
    ],
)
def test_impossible_settings_are_named(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_mapping(change)


def list_fields(kind=Config, prefix=""):
    """Return (path, type, limits) of every field below a dataclass."""
    found = []
    for field in dataclasses.fields(kind):
        wanted, path = typing.get_type_hints(kind)[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(wanted):
            found += list_fields(wanted, f"{path}.")
        else:
            found.append((path, wanted, field.metadata))
    return found


FIELDS = list_fields()


HOSTILE = [
    math.nan, math.inf, -math.inf, 1e30, -1e30, 1e-30, 10**20, -(10**20), 10**5000, 2**31, True,
    None, "", " ", "many", "1", "a\0b", "a\nb", "x" * 5000, [], (), {}, {"x": 1}, [1], (1, 2, 3),
    [[1]], ["a"], (math.nan,) * 3, [True], 0, 1, -1, 3, 0.5, 2.5, b"x", object(), [1] * 100,
]  # fmt: skip


def nest(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def is_of(value, wanted, limits):
    """Whether an accepted value keeps its type and limits, said independently of the package."""
    origin, items = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return value in items
    if origin is tuple:
        return type(value) is tuple and value and all(is_of(v, items[0], limits) for v in value)
    if type(value) is not wanted:
        return False
    if wanted in (bool, str):
        return True
    return (
        math.isfinite(value)
        and value >= limits["least"]
        and (value <= limits["most"] if "most" in limits else value < limits["below"])
        and value % limits.get("multiple", 1) in (0, value % 1)
    )


def test_every_number_has_limits_that_hold_its_default():
    for path, wanted, limits in FIELDS:
        kinds = {wanted, *typing.get_args(wanted)} & {int, float}
        assert bool(kinds) == bool(limits), path
        if kinds:
            assert "least" in limits and len({"most", "below"} & set(limits)) == 1, path
            assert set(limits) <= {"least", "most", "below", "multiple"}, path
            assert is_of(functools.reduce(getattr, path.split("."), Config()), wanted, limits), path


@pytest.mark.parametrize(("path", "wanted", "limits"), FIELDS, ids=[row[0] for row in FIELDS])
def test_any_value_is_taken_whole_or_refused_by_name(path, wanted, limits):
    accepted = 0
    choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
    default = functools.reduce(getattr, path.split("."), Config())
    for value in [*HOSTILE, *limits.values(), *choices, default]:
        try:
            config = from_mapping(nest(path, value))
        except ConfigError as error:
            message = str(error)
            assert path in message and message.endswith("."), (value, message)
            assert "\n" not in message and len(message) < 300, message
            continue
        accepted += 1
        found = functools.reduce(getattr, path.split("."), config)
        assert is_of(found, wanted, limits), (value, found)
        assert from_mapping(json.loads(json.dumps(to_mapping(config), allow_nan=False))) == config
    assert accepted, "no value is accepted"
    with pytest.raises(ConfigError, match=re.escape(path)):
        from_mapping(nest(f"{path}.deeper", 1))


def test_many_changed_fields_are_taken_whole_or_refused_by_name():
    rng, accepted = random.Random(0), 0
    for _ in range(2000):
        changed = {}
        for path, wanted, limits in rng.sample(FIELDS, 4):
            bounds = [v for k, v in limits.items() if k != "below"]
            choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
            node = changed
            *groups, name = path.split(".")
            for group in groups:
                node = node.setdefault(group, {})
            node[name] = rng.choice([*bounds, *choices, True, False, (1, 2, 3), "a"])
        try:
            config = from_mapping(changed)
        except ConfigError as error:
            named = str(error).split(":")[0].split("[")[0]
            assert any(path.startswith(named) for path, _, _ in FIELDS), error
            continue
        accepted += 1
        for path, wanted, limits in FIELDS:
            assert is_of(functools.reduce(getattr, path.split("."), config), wanted, limits), path
    assert 10 < accepted < 1990


def test_the_smallest_sizes_build():
    """Every size at its lower limit is still a network, of both methods."""
    least = {}
    for path, wanted, limits in FIELDS:
        if path.startswith(("model.", "clip_zss.student.")) and limits:
            count = 3 if path.endswith("stage_depths") else 2
            many = typing.get_origin(wanted) is tuple
            value = (limits["least"],) * count if many else limits["least"]
            *groups, name = path.split(".")
            functools.reduce(lambda node, group: node.setdefault(group, {}), groups, least)[
                name
            ] = value
    config = from_mapping(least)
    assert config.model.encoder.patch_px == 1 and config.model.encoder.width == 4
    check_student(config)
    least["objective"], least["clip_zss"]["labels"] = "clip_zss", {"stride_px": 1}
    check_dense_student(from_mapping(least))


def test_a_value_as_typed_is_explained():
    assert explain_text("optim.steps", "1e3").startswith("optim.steps: '1e3' is not of type int")
    assert explain_text("data.mean", "a").startswith("data.mean: 'a' is not a list")
    assert explain_text("data.directory", "anything") == ""


def test_prompt_sets_are_those_of_the_teacher():
    kind = typing.get_type_hints(LabelsConfig)["prompts"]
    assert set(typing.get_args(kind)) == set(PROMPTS)


def test_mapping_round_trip_and_integers_for_floats():
    assert from_mapping(to_mapping(Config())) == Config()
    assert from_mapping({"loss": {"cell": 1}}).loss.cell == 1.0


def test_every_old_name_sets_its_field():
    old = json.loads((GOLDEN / "before_grouping.json").read_text())["zss"]
    assert {f"zss.{name}" for name in old} == set(OLD_NAMES)
    new = flatten({"clip_zss": to_mapping(Config())["clip_zss"]})
    added = [  # since the groups
        "clip_zss.augment.class_share", "clip_zss.augment.colour", "clip_zss.augment.scales",
        "clip_zss.loss.seen_form", "clip_zss.loss.self_training_begin",
        "clip_zss.student.drop_path", "clip_zss.student.head_dropout", "clip_zss.student.head_norm",
    ]  # fmt: skip
    assert sorted([*OLD_NAMES.values(), *added]) == sorted(new)
    for name, today in OLD_NAMES.items():
        read = flatten(rename_old({"zss": {name.removeprefix("zss."): "marked"}}))
        assert read == {today: "marked"}
    with pytest.raises(ConfigError, match=r"zss.windoes: no such field"):
        from_mapping({"zss": {"windoes": 3}})


def flatten(tree, prefix=""):
    flat = {}
    for name, value in tree.items():
        nested = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
