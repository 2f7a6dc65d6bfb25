"""ZeroSeg as an objective: warnings of collapse, and gradients of what is scored in all recipes."""

import dataclasses
import functools
import importlib
import tarfile
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import small_hub
from PIL import Image

from tests.training.tiny import QUIET, losses_of
from zeroseg_jax.assets.recipes import playground, reproduction
from zeroseg_jax.commands.recipes import list_recipes
from zeroseg_jax.config import Config, from_mapping
from zeroseg_jax.data.bank import bank_directory
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.inference.predictor import Predictor
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training import zeroseg
from zeroseg_jax.training.inputs import build_inputs
from zeroseg_jax.training.loop import train

ROOT = Path(__file__).parent.parent.parent
ALIKE = {"segments_used": 1.1, "distinct_matches": 1.2, "segment_cosine": 0.998}
APART = {"segments_used": 3.5, "distinct_matches": 2.5, "segment_cosine": 0.9}


def replace(config, **head_or_loss):
    head = {key: value for key, value in head_or_loss.items() if hasattr(config.model.head, key)}
    loss = {key: value for key, value in head_or_loss.items() if key not in head}
    model = dataclasses.replace(config.model, head=dataclasses.replace(config.model.head, **head))
    return dataclasses.replace(config, model=model, loss=dataclasses.replace(config.loss, **loss))


def test_a_collapse_is_described_with_its_remedy():
    config = Config()
    found = zeroseg.describe_collapse(ALIKE, config)
    assert "1.1 of 8 in use" in found and "1.2 different matches" in found and "0.998" in found
    assert "model.head.scores=standardised" in found and "loss.matching_mode=located" in found
    assert zeroseg.describe_collapse(APART, config) == ""
    # Each remedy is named for its own cause, and not where it is in use.
    found = zeroseg.describe_collapse({**APART, "distinct_matches": 1.2}, config)
    assert "scores" not in found and "located" in found
    found = zeroseg.describe_collapse(ALIKE, replace(config, scores="centred"))
    assert "scores" not in found
    both = replace(config, scores="standardised", matching_mode="located")
    assert "a lower optim.base_rate" in zeroseg.describe_collapse(ALIKE, both)


def test_without_matching_or_with_one_segment_there_is_less_to_describe():
    matches = {**APART, "distinct_matches": 1.0}
    assert zeroseg.describe_collapse(matches, replace(Config(), matching=0.0)) == ""
    assert zeroseg.describe_collapse(ALIKE, replace(Config(), segment_tokens=(32, 1))) == ""


@pytest.mark.slow
def test_a_collapsing_run_warns_once(tmp_path, configure, clip):
    lines = []
    options = dataclasses.replace(QUIET, log=lines.append)
    config = configure(run={"log_every_steps": 2, "checkpoint_every_steps": 100}, steps=24)
    train(replace(config, cell=0.0), tmp_path, teacher=clip, options=options)
    warnings = [line for line in lines if "warning" in line]
    assert len(warnings) == 1 and "segments have collapsed" in warnings[0]
    assert warnings[0].startswith("train: warning at step 20")
    assert any(" cosine " in line for line in lines)


# Set to the bank's mean feature at the start and kept (loss.centre).
CONSTANT = "head/feature_mean"
SMALL = {
    "model.image_px": 32, "model.embed_dim": 12, "model.encoder.width": 16,
    "model.encoder.heads": 2, "model.encoder.patch_px": 8, "model.decoder.width": 16,
    "model.decoder.heads": 2, "model.decoder.depth": 1, "model.head.width": 16,
    "model.head.heads": 2, "model.head.z_hidden": 16, "model.head.segment_tokens": (6, 4),
    "model.head.stage_depths": (1, 1, 1), "model.mask_ratio": 0.25, "run.dtype": "float32",
    "optim.batch_global": 4, "model.encoder.depth": 2,
}  # fmt: skip


def shrink(config, overrides=None):
    """Make the student of a recipe tiny, and drop what does not enter the gradients."""
    config.update_from_flattened_dict({**SMALL, **(overrides or {})})
    config = from_mapping(config.to_dict())
    kept = {name: getattr(config, name) for name in ("model", "loss", "teacher")}
    kept["teacher"] = dataclasses.replace(kept["teacher"], directory="playground", affinity="")
    return dataclasses.replace(Config(), **kept)


@functools.cache
def find_untrained(config):
    """Name the parameters that move g, z or the maps and have no gradient of the objective."""
    student = students.build_student(config.model, attention="xla")
    objective = zeroseg.build_abstract(config)
    random = np.random.default_rng(0)
    px, views = config.model.image_px, len(list_windows(config))
    batch = {
        "image": random.integers(0, 256, (4, px, px, 3), dtype=np.uint8),
        "features": random.normal(size=(4, views, config.model.embed_dim)).astype(np.float32),
    }
    params = objective.init_params(jax.random.key(0))
    # Parameters that start at 0 would hide the others from score and loss alike.
    leaves, tree = jax.tree.flatten(params)
    leaves = [np.asarray(x) + 0.1 * random.normal(size=x.shape).astype(np.float32) for x in leaves]
    params = jax.tree.unflatten(tree, leaves)
    images = (batch["image"] / 255).astype(np.float32)
    score = jax.jit(functools.partial(students.apply_segment, student))
    learn = jax.jit(jax.grad(lambda p, key: objective.loss_fn(p, batch, key, None)[0]))
    gradients = [learn(params, jax.random.key(key)) for key in range(3)]
    before = jax.tree.leaves(score(params, images))
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    reach = [
        max(np.abs(g).max() for g in leaf)
        for leaf in zip(*map(jax.tree.leaves, gradients), strict=True)
    ]
    untrained = []
    for number, name in enumerate(names):
        moved = list(leaves)
        moved[number] = leaves[number] + 0.3 * random.normal(size=leaves[number].shape)
        after = score(jax.tree.unflatten(tree, [x.astype(np.float32) for x in moved]), images)
        change = max(
            np.abs(a - b).max() for a, b in zip(before, jax.tree.leaves(after), strict=True)
        )
        # Rounding moves both by less: a bias of keys changes no softmax.
        if change > 1e-3 and reach[number] < 1e-8 and name != CONSTANT:
            untrained.append(name)
    return untrained


def list_objectives():
    """List one recipe for each objective and wiring of ZeroSeg."""
    found = {}
    for name in list_recipes():
        module = importlib.import_module(f"zeroseg_jax.assets.recipes.{name}")
        for variant in getattr(module, "VARIANTS", ("",)):
            config = module.get_config(variant) if variant else module.get_config()
            if config.objective == "zeroseg":
                found.setdefault(shrink(config), f"{name}:{variant}")
    return found


OBJECTIVES = list_objectives()


@pytest.mark.slow
@pytest.mark.parametrize("config", OBJECTIVES, ids=OBJECTIVES.values())
def test_a_recipe_trains_what_it_scores(config):
    assert find_untrained(config) == []


@pytest.mark.slow
def test_rows_without_matching_train_what_they_score():
    base = reproduction.get_config("table4")
    row = {"loss.matching": 0.0, "loss.distil_views": "whole"}
    assert find_untrained(shrink(base, row)) == []


@pytest.mark.slow
def test_scores_that_nothing_trains_are_found():
    """Two bases that recorded tables had: a random grouping, and a random projection."""
    row = {"loss.matching": 0.0, "loss.cell": 0.0, "loss.patch": 0.0, "loss.inside": 0.0}
    found = find_untrained(shrink(playground.get_config("default"), row))
    assert "head/patch_projection/kernel" in found
    found = find_untrained(shrink(playground.get_config("faithful"), {"loss.matching": 0.0}))
    assert set(found) >= {"head/segment_projection/kernel", "head/segment_norm/scale"}


def write_images(directory, tar=False):
    """Write four cuts of the Playground's scene as JPEG files, or as one shard of them."""
    scene = Image.open(ROOT / "docs/images/scene.png").convert("RGB")
    directory.mkdir()
    for number in range(4):
        side = 60 + 10 * number
        scene.crop((0, 0, side, side)).resize((256, 256)).save(directory / f"{number}.jpg")
    if tar:
        with tarfile.open(directory / "00000.tar", "w") as shard:
            for path in sorted(directory.glob("*.jpg")):
                shard.add(path, path.name)
                path.unlink()
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["zeroseg_plus:imagenet", "imagenet:cc3m_coco"])
def test_recipes_for_photographs_run_from_images_to_segments(tmp_path, recipe):
    """Random weights in CLIP ViT-B/16's layout: prepare, train, segment."""
    name, variant = recipe.split(":")
    raw = importlib.import_module(f"zeroseg_jax.assets.recipes.{name}").get_config(variant)
    teacher = small_hub.write_clip(tmp_path / "clip")
    images = write_images(tmp_path / "images", tar=raw.data.source == "tar")
    narrow = {"model.encoder.width": 64, "model.encoder.heads": 1, "model.encoder.mlp_ratio": 2.0}
    narrow |= {"model.decoder.width": 16, "model.decoder.heads": 2, "model.decoder.depth": 1}
    narrow |= {"model.head.width": 16, "model.head.heads": 2, "model.embed_dim": 64}
    if raw.model.encoder.init == "scratch":
        narrow |= {"model.encoder.depth": 1, "model.head.stage_depths": (1, 1, 1)}
    raw.update_from_flattened_dict(
        {
            **narrow, "data.directory": str(images), "data.workers": 0, "optim.steps": 2,
            "optim.batch_global": 2, "run.dtype": "float32", "teacher.directory": str(teacher),
            "teacher.grids": (1, 2), "mesh.data": 1,
        }
    )  # fmt: skip
    config, clip, workdir = from_mapping(raw.to_dict()), load_teacher(teacher), tmp_path / "run"
    prepare_bank(config, bank_directory(config, workdir), clip, lambda line: None)
    if config.model.encoder.init == "teacher":
        source = build_inputs(config, workdir, clip, lambda line: None)
        start = zeroseg.build(config, clip, source).init_params(jax.random.key(0))
        for block in ("blocks_0", "blocks_11"):
            chex.assert_trees_all_equal(start["encoder"][block], clip.vision_params[block])
    train(config, workdir, teacher=clip, options=QUIET)
    losses = losses_of(workdir)
    assert losses and np.isfinite(list(losses.values())).all()
    predictor = Predictor.from_pretrained(workdir)
    mask = predictor.segment(ROOT / "docs/images/scene.png", ["a", "b"]).mask
    assert mask.shape == Image.open(ROOT / "docs/images/scene.png").size[::-1]
