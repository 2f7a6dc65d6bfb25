"""Recipes: golden expansions, headers, sizes that build, points of sweeps."""

import importlib
import json
from pathlib import Path

import pytest
from building import check_dense_student, check_student

from zeroseg_jax.assets.recipes import base
from zeroseg_jax.commands.recipes import list_recipes
from zeroseg_jax.config import from_mapping, to_mapping
from zeroseg_jax.training.optimizer import count_steps

ROOT = Path(__file__).parent.parent.parent


GOLDEN = ROOT / "tests" / "golden"


def load(name):
    return importlib.import_module(f"zeroseg_jax.assets.recipes.{name}")


RECIPES = [
    (name, variant) for name in list_recipes() for variant in getattr(load(name), "VARIANTS", ("",))
]


def expand(name, variant):
    module = load(name)
    config = module.get_config(variant) if variant else module.get_config()
    return from_mapping(config.to_dict())


@pytest.mark.parametrize(("name", "variant"), RECIPES)
def test_recipe_equals_its_golden_expansion(name, variant):
    """A changed default shows in review; tests/regenerate_golden.py rewrites the files."""
    golden = json.loads((GOLDEN / f"{name}_{variant or 'only'}.json").read_text())
    assert json.loads(json.dumps(to_mapping(expand(name, variant)))) == golden


@pytest.mark.parametrize(("name", "variant"), RECIPES)
def test_recipe_builds(name, variant):
    config = expand(name, variant)
    if config.objective == "clip_zss":
        check_dense_student(config)
        return
    check_student(config)


@pytest.mark.parametrize(("name", "variant"), RECIPES)
def test_recipe_says_paper_command_and_expectation(name, variant):
    del variant
    text = (ROOT / "configs" / f"{name}.py").read_text()
    for word in ("Paper:", "Command:", "Expected:"):
        assert word in text


def test_defaults_stay_few():
    def leaves(tree):
        return sum(leaves(v) if isinstance(v, dict) else 1 for v in tree.values())

    assert leaves(base.get_config().to_dict()) <= 148


def test_mappings_from_before_the_grouping_are_read():
    """The stored file is the expansion of clip_zss:voc when its fields were flat, under zss."""
    old = json.loads((GOLDEN / "before_grouping.json").read_text())
    old["zss"] |= {"prompts": "zegclip_single", "alpha": 1.0}  # the recipe has changed since
    new = to_mapping(from_mapping(old))
    new["clip_zss"]["loss"]["seen_form"] = "product"  # a field since then
    new["clip_zss"]["student"] |= {"drop_path": 0.1, "head_dropout": 0.1, "head_norm": "batch"}
    new["clip_zss"]["augment"] = {"scales": (0.5, 2.0), "class_share": 0.75, "colour": True}
    new["optim"] |= {"base_rate": 6e-4 * 16, "encoder_rate_scale": 0.1}
    new["optim"]["schedule"] = "poly_from_start"
    assert from_mapping(new) == expand("clip_zss", "voc")


def test_unknown_variant_lists_the_known():
    with pytest.raises(
        ValueError, match="playground:defualt: no such variant; did you mean default"
    ):
        load("playground").get_config("defualt")


def test_the_papers_size():
    config = expand("imagenet", "vit_b16")
    model = config.model
    assert (model.encoder.width, model.encoder.depth, model.encoder.heads) == (768, 12, 12)
    assert model.head.segment_tokens == (32, 8) and sum(model.head.stage_depths) == 5
    assert model.decoder.depth == 8 and model.mask_ratio == 0.6
    assert config.optim.base_rate * config.optim.batch_global / 256 == pytest.approx(2.4e-3)


@pytest.mark.parametrize(("images", "steps"), [(1000, 1171), (10_000, 11_718)])
def test_the_papers_student_on_a_folder_trains_as_its_header_says(images, steps):
    config = expand("photos", "vit_b16")
    assert config.model.encoder == expand("imagenet", "vit_b16").model.encoder
    assert count_steps(config, images) == steps == 300 * images // 256
    assert config.optim.base_rate * config.optim.batch_global / 256 == 5e-4
    text = (ROOT / "configs" / "photos.py").read_text()
    assert "300 N / 256 steps, for example 11,718 for 10,000" in text
    assert expand("photos", "vit_b16_smoke").optim.steps == 8


def test_every_point_of_the_reproduction_can_be():
    module = load("reproduction")
    for variant in module.VARIANTS:
        base = expand("reproduction", variant)
        fields = [list(point) for point in module.sweep(variant)]
        assert len(fields) % len(module.SEEDS) == 0 and all(f == fields[0] for f in fields)
        for point in module.sweep(variant):
            config = module.get_config(variant)
            config.update_from_flattened_dict(point)
            changed = from_mapping(config.to_dict())
            assert changed.model.encoder == base.model.encoder
