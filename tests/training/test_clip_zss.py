"""CLIP-ZSS in the one loop: the bank of class tokens, devices, resume, leakage, refusals."""

import dataclasses
import json
import shutil

import chex
import jax
import numpy as np
import pytest

from tests.training.tiny import QUIET, quiet
from zeroseg_jax.config import ConfigError, from_mapping
from zeroseg_jax.data import seen_labels as labels
from zeroseg_jax.data.bank import REGIONS_FOLDER
from zeroseg_jax.data.joined_banks import FusedSource
from zeroseg_jax.data.locks import LockedError, lock_directory
from zeroseg_jax.evaluation.runner import segment_image
from zeroseg_jax.inference.model import SHIPPED_STUDENT, Model, load
from zeroseg_jax.inference.model_files import write_pretrained
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.scoring import pack_classes
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.models.clip_zss import student as dense_student
from zeroseg_jax.teacher import region_labels as pseudo_labels
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import load_teacher
from zeroseg_jax.training import sharding, trees
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.clip_zss import build_loss
from zeroseg_jax.training.inputs import build_inputs, describe_batch
from zeroseg_jax.training.loop import Options, train
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step

TINY = {
    "objective": "clip_zss",
    "model": {
        "image_px": 32,
        "embed_dim": 128,
        "encoder": {"width": 16, "depth": 1, "heads": 2, "patch_px": 8},
    },
    "clip_zss": {
        "labels": {"prompts": "playground"},
        "student": {"synthesizer_width": 16, "synthesizer_heads": 2, "synthesizer_depth": 1},
        "regions": {"seed_windows": (2,), "max_regions": 4},
        "loss": {"local_weight": 1.0, "memory_size": 12},
    },
    "teacher": {"grids": (1,)},
    "data": {"images": 24},
    "optim": {"batch_global": 8, "base_rate": 0.02, "steps": 4, "schedule": "poly"},
    # One device, but for the tests of several: eight faked ones on two cores can deadlock in XLA.
    "mesh": {"data": 1},
    "run": {"log_every_steps": 1, "checkpoint_every_steps": 2},
}  # fmt: skip


NORMED = {"student.encoder": "mit_tiny", "student.head_norm": "batch"}


@pytest.fixture(scope="module")
def clip():
    return load_teacher("playground")


def build(directory, clip, config, log=quiet):
    prepare_bank(config, directory, clip, quiet)
    return pseudo_labels.prepare_regions(config, directory, clip, log)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, clip):
    directory = tmp_path_factory.mktemp("zss") / "bank"
    lines = []
    return directory, build(directory, clip, from_mapping(TINY), lines.append), lines


def configure(prepared, changes=None, **optim):
    config = from_mapping({**TINY, "clip_zss": change(changes)})
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, bank=str(prepared[0])),
        optim=dataclasses.replace(config.optim, **optim),
    )


def change(changes=None):
    """Return TINY's clip_zss with {"group.field": value} replaced."""
    groups = {name: dict(fields) for name, fields in TINY["clip_zss"].items()}
    for name, value in (changes or {}).items():
        group, field = name.split(".")
        groups.setdefault(group, {})[field] = value
    return groups


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prepared, clip):
    workdir = tmp_path_factory.mktemp("whole")
    assert train(configure(prepared), workdir, teacher=clip, options=QUIET)["finished"]
    return workdir


def losses_of(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_prepare_counts_what_it_hid_and_how_good_regions_are(prepared):
    directory, report, lines = prepared
    assert report["images"] == 24 and 0 < report["mean_best_iou"] <= 1
    read = labels.read_playground(0, 224)
    hidden = sum((read(i, "") == 2).sum() for i in range(24))
    assert report["unseen_pixels_hidden"]["triangle"] == hidden > 0
    assert report["images_all_annotated"] + report["images_with_unseen_pixels"] >= 24
    assert any("hidden pixels of unseen classes" in line for line in lines)
    assert len(list((directory / "regions" / "pictures").glob("*.png"))) == 8
    source = FusedSource(directory)
    full = source[5]["fused"]
    truth = labels.SeenLabelSource(read, 18, tuple(range(18)), (), 8).load(5, "").labels
    unseen = np.isin(truth, (2, 5, 8, 11))
    assert ((full >= 14) == unseen).all() or (full[unseen] == -1).all()
    assert source[5]["local"].shape == (4, 128)


def test_prepare_goes_on_where_it_was(prepared, tmp_path, clip):
    directory = tmp_path / "bank"
    shutil.copytree(prepared[0], directory)
    record = directory / "regions" / "shard-00000.arrayrecord"
    before = FusedSource(directory)[3]["fused"]
    (directory / "regions" / "manifest.json").unlink()
    record.unlink()
    held = lock_directory(directory / REGIONS_FOLDER, "prepares regions", name=".lock-0")
    with held, pytest.raises(LockedError, match="prepares regions there; wait for it"):
        pseudo_labels.prepare_regions(from_mapping(TINY), directory, clip, quiet)
    again = pseudo_labels.prepare_regions(from_mapping(TINY), directory, clip, quiet)
    assert again == prepared[1]
    np.testing.assert_array_equal(FusedSource(directory)[3]["fused"], before)


def test_regions_of_a_pair_record_the_second_tower(prepared, tmp_path, clip):
    """Read-out proxy as targets: a manifest that names the tower; old ones need not."""
    pair = {"grids": (1,), "affinity": "playground"}
    changed = change({"regions.readout": "proxy"})
    config = from_mapping({**TINY, "clip_zss": changed, "teacher": pair})
    directory = tmp_path / "bank"
    shutil.copytree(prepared[0], directory)
    shutil.rmtree(directory / "regions")
    pseudo_labels.prepare_regions(config, directory, clip, quiet)
    new, old = (json.loads((place / "regions" / "manifest.json").read_text())
                for place in (directory, prepared[0]))  # fmt: skip
    assert (new["readout"], new["affinity"]) == ("proxy", "playground")
    assert new["affinity_digest"] == clip.digest
    assert new.keys() - old.keys() == {"affinity", "affinity_digest"}
    with pytest.raises(ConfigError, match="teacher.affinity: empty; .* such as dinov2"):
        from_mapping({**TINY, "clip_zss": changed})
    with pytest.raises(ConfigError, match="teacher.affinity: dinov2 is not read"):
        from_mapping({**TINY, "teacher": {"grids": (1,), "affinity": "dinov2"}})


def test_regions_are_those_of_the_read_out(prepared, tmp_path, clip):
    """SC-CLIP's tokens as targets: other regions than the recipe's read-out, by name."""
    config = from_mapping({**TINY, "clip_zss": change({"regions.readout": "scclip"})})
    directory = tmp_path / "bank"
    shutil.copytree(prepared[0], directory)
    shutil.rmtree(directory / "regions")
    pseudo_labels.prepare_regions(config, directory, clip, quiet)
    manifest = json.loads((directory / "regions" / "manifest.json").read_text())
    assert manifest["readout"] == "scclip"
    maps = [
        np.stack([FusedSource(place)[i]["fused"] for i in range(8)])
        for place in (directory, prepared[0])
    ]
    assert ((maps[0] < 14) == (maps[1] < 14)).mean() > 0.99  # seen labels stay
    assert (maps[0] != maps[1]).any()


@pytest.mark.parametrize("begin", [0.0, 0.5], ids=["inductive", "self-training"])
def test_permuted_unseen_labels_train_the_same_student(
    prepared, tmp_path, clip, whole, monkeypatch, begin
):
    """From masks to parameters: what unseen classes are called makes no difference."""
    changes = {"loss.self_training_begin": begin}
    original = losses_of(whole)
    if begin:
        train(configure(prepared, changes), tmp_path / "other", teacher=clip, options=QUIET)
        original = losses_of(tmp_path / "other")
        # The names count from half of the steps on.
        assert original[:2] == pytest.approx(losses_of(whole)[:2], rel=1e-5)
        assert original[2] != pytest.approx(losses_of(whole)[2], rel=1e-3)
    encode = labels.encode_scene

    def permuted(scene):
        full = encode(scene)
        other = full.copy()
        for i, j in ((2, 11), (5, 2), (8, 8), (11, 5)):
            other[full == i] = j
        return other

    monkeypatch.setattr(labels, "encode_scene", permuted)
    directory = tmp_path / "bank"
    report = build(directory, clip, from_mapping(TINY))
    assert report["unseen_pixels_hidden"] != prepared[1]["unseen_pixels_hidden"]
    train(configure((directory,), changes), tmp_path / "run", teacher=clip, options=QUIET)
    assert losses_of(tmp_path / "run") == original


def test_the_bank_of_class_tokens_is_the_same_on_one_device_and_on_two(
    prepared, tmp_path, clip, whole
):
    config = configure(prepared)
    config = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, data=2))
    train(config, tmp_path, teacher=clip, options=QUIET)
    np.testing.assert_allclose(losses_of(tmp_path), losses_of(whole), rtol=1e-5)


def test_a_global_batch_enters_the_bank_once(prepared, clip, tmp_path):
    """After two steps of 8 the 12 places hold the second batch, then half of the first."""
    config = configure(prepared)
    config = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, data=2))
    inputs = build_inputs(config, tmp_path, clip, quiet)
    goal = METHODS[config.objective].build(config, clip, inputs)
    optimizer = build_optimizer(config, 4)
    mesh = sharding.build_mesh(config)
    shapes = jax.eval_shape(lambda: init_state(config, goal, optimizer))
    abstract_state = sharding.shard_state(shapes, mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
    state = jax.jit(lambda: init_state(config, goal, optimizer), out_shardings=shardings)()
    step = build_step(config, goal, optimizer, mesh, abstract_state)
    batches = inputs.batches(0, batch_per_host=8)
    tokens = []
    for _ in range(2):
        batch = dict(next(batches))
        batch.pop("index")
        tokens.append(batch["features"][:, 0].astype(np.float32))
        state, _ = step(state, jax.device_put(batch, sharding.split(mesh)))
    wanted = np.concatenate([tokens[1], tokens[0][:4]])
    np.testing.assert_array_equal(state.memory["bank"], wanted)


def test_the_plan_traces_the_same_loss():
    """Without teacher, words and bank: from the config alone."""
    config = from_mapping({**TINY, "clip_zss": change({"loss.self_training_begin": 0.5})})
    goal, key = METHODS[config.objective].build_abstract(config), jax.random.key(0)
    params, memory = jax.eval_shape(goal.init_params, key), jax.eval_shape(goal.init_memory)
    loss, found = jax.eval_shape(goal.loss_fn, params, describe_batch(config), key, memory)
    assert loss.shape == () and {"loss_local", "loss_global"} < set(found.metrics)
    assert "loss_prototype" in found.metrics and not found.statistics


def test_resumed_equals_undisturbed(prepared, tmp_path, clip, whole):
    """The bank of class tokens is saved and restored with the rest."""
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints" / "4")
    lines = []
    train(configure(prepared), workdir, teacher=clip, options=Options(log=lines.append))
    assert any("resuming from step 2" in line for line in lines)
    chex.assert_trees_all_equal(*(load_params(directory)[0] for directory in (whole, workdir)))


@pytest.mark.slow
def test_running_statistics_resume_and_are_exported(prepared, tmp_path, clip):
    """A SegFormer whose head has batch norm; the step alone is in test_step.py."""
    config = configure(prepared, NORMED)
    train(config, tmp_path / "whole", teacher=clip, options=QUIET)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
    half = load_params(tmp_path / "again")[0]["head"]["fuse_norm"]
    train(config, tmp_path / "again", teacher=clip, options=QUIET)
    whole, again = (load_params(tmp_path / run)[0] for run in ("whole", "again"))
    chex.assert_trees_all_equal(whole, again)
    for name in ("mean", "variance"):
        assert (half[name] != whole["head"]["fuse_norm"][name]).all()
    write_pretrained(whole, config, tmp_path / "export", {}, step=4, teacher="playground")
    chex.assert_trees_all_equal(whole, load(tmp_path / "export").params)


def test_an_exported_student_with_batch_norm_gives_the_same_logits(tmp_path, clip):
    config = from_mapping({**TINY, "clip_zss": change(NORMED)})
    student = dense_student.build_dense_student(config.model, config.clip_zss.student)
    shapes = jax.eval_shape(lambda: dense_student.init_dense_params(student, jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32) - 0.5, shapes)
    norm = params["head"]["fuse_norm"]
    norm["variance"] = np.square(norm["variance"]) + 0.1
    write_pretrained(params, config, tmp_path, {}, step=4, teacher="playground")
    image = rng.integers(0, 255, (2, 32, 32, 3)).astype(np.float32)
    classes = pack_classes([row[None] for row in np.eye(3, 128, dtype=np.float32)])
    preset = get_preset("zss", "playground/zss")

    def score(model):
        segmenter = ModelSegmenter(model)
        return np.asarray(segmenter.score(segmenter.encode(image), classes, preset).table)

    run = Model("clip_zss", params, clip, "test", config)
    np.testing.assert_array_equal(score(run), score(load(tmp_path)))
    # The running statistics count, not those of the images.
    other = trees.replace(params, {"head/fuse_norm/mean": norm["mean"] + 1})
    assert np.abs(score(dataclasses.replace(run, params=other)) - score(run)).max() > 1e-3


@pytest.mark.slow
def test_running_statistics_are_of_the_batch_of_all_devices():
    """Eight devices with an image each; the step on one device is in test_step.py."""
    still = {**NORMED, "student.flip": False}
    config = from_mapping({**TINY, "clip_zss": change(still), "mesh": {"data": 8}})
    rng = np.random.default_rng(0)
    drawn = {
        "image": lambda shape: (
            rng.integers(0, 256, shape) // (1 + np.arange(8)[:, None, None, None])
        ),
        "fused": lambda shape: rng.integers(0, 4, shape),
    }
    batch = {
        name: drawn.get(name, lambda shape: rng.normal(size=shape))(leaf.shape).astype(leaf.dtype)
        for name, leaf in describe_batch(config).items()
    }
    goal, optimizer = METHODS[config.objective].build_abstract(config), build_optimizer(config, 4)
    mesh = sharding.build_mesh(config)
    initial = jax.jit(lambda: init_state(config, goal, optimizer))()
    abstract_state = sharding.shard_state(initial, mesh)
    _, found = jax.jit(goal.loss_fn)(initial.params, batch, jax.random.key(0), initial.memory)
    wanted = trees.flatten(trees.replace(initial.params, found.statistics))
    step = build_step(config, goal, optimizer, mesh, abstract_state)
    placed = jax.device_put(initial, jax.tree.map(lambda leaf: leaf.sharding, abstract_state))
    state, _ = step(placed, jax.device_put(batch, sharding.split(mesh)))
    for name in ("head/fuse_norm/mean", "head/fuse_norm/variance"):
        after = trees.flatten(state.params)[name]
        np.testing.assert_allclose(after, wanted[name], rtol=1e-5, atol=1e-6)


def test_self_training_and_augmentation_resume_where_they_were(prepared, tmp_path, clip, whole):
    """The count of steps is restored; the draws depend on the seed and the step alone."""
    config = configure(
        prepared,
        {"loss.self_training_begin": 0.75, "augment.scales": (0.5, 2.0), "augment.colour": True},
    )
    train(config, tmp_path / "whole", teacher=clip, options=QUIET)
    assert losses_of(tmp_path / "whole")[0] != pytest.approx(losses_of(whole)[0], rel=1e-3)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
    train(config, tmp_path / "again", teacher=clip, options=QUIET)
    chex.assert_trees_all_equal(*(load_params(tmp_path / run)[0] for run in ("whole", "again")))


def test_misfits_are_named(prepared, tmp_path, clip):
    with pytest.raises(ValueError, match="bank: merge_above is 0.85 there but 0.5"):
        train(
            configure(prepared, {"regions.merge_cosine": 0.5}),
            tmp_path,
            teacher=clip,
            options=QUIET,
        )
    with pytest.raises(ValueError, match="begun with merge_above"):
        changed = configure(prepared, {"regions.merge_cosine": 0.5})
        pseudo_labels.prepare_regions(changed, prepared[0], clip, quiet)
    for changes, sentence in (
        ({"labels.stride_px": 5}, "clip_zss.labels.stride_px: 5"),
        ({"student.encoder": "mit_b9"}, "clip_zss.student.encoder: 'mit_b9'"),
        ({"student.drop_path": 0.1}, "clip_zss.student.drop_path: 0.1 is for SegFormer"),
        ({"student.head_dropout": 0.1}, "clip_zss.student.head_dropout: 0.1 is for SegFormer"),
        ({"student.head_norm": "batch"}, "clip_zss.student.head_norm: batch is for SegFormer"),
        ({"loss.self_training_begin": 1.0}, "clip_zss.loss.self_training_begin: 1.0 is out of"),
        ({"labels.split": "none", "loss.prototype_weight": 0.0, "loss.self_training_begin": 0.5},
         "self_training_begin: 0.5 needs unseen classes"),
        ({"loss.self_training_begin": 0.5, "loss.pixel_weight": 0.0, "loss.focal_weight": 0.0,
          "loss.dice_weight": 0.0}, "self_training_begin: 0.5 labels pixels"),
        ({"labels.split": "none"}, "clip_zss.labels.split: none has no seen classes"),
        ({"regions.merge_cosine": 2.0}, "clip_zss.regions.merge_cosine"),
        ({f"loss.{name}_weight": 0.0
          for name in ("pixel", "focal", "dice", "global", "prototype", "local")},
         "every term has weight 0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=sentence):
            from_mapping({**TINY, "clip_zss": change(changes)})


def test_evaluation_needs_the_encoder_and_class_vectors_alone(whole, clip):
    params, config, _ = load_params(whole)
    del params["synthesizer"]
    text = np.eye(3, 128, dtype=np.float32)
    segmenter = ModelSegmenter(Model("clip_zss", params, clip, "test", config))
    classes, preset = pack_classes([row[None] for row in text]), get_preset("zss", "playground/zss")
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    encoded = segmenter.encode(image[None].astype(np.float32))
    scored = segmenter.score(encoded, classes, preset)
    student = dense_student.build_dense_student(config.model, config.clip_zss.student)
    pixels = (image / 255 - np.array(config.data.mean)) / np.array(config.data.std)
    features = dense_student.apply_dense(student, params, pixels[None].astype(np.float32))
    features = np.asarray(features).reshape(16, 128)
    wanted = features @ text.T / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(scored.table)[0, :, :3], wanted, atol=1e-5)
    labels, _, _ = segment_image(segmenter, image, classes, preset)
    assert labels.shape == (32, 32) and labels.max() < 3


def test_starts(whole, clip):
    """A dense student starts from CLIP's tower, and from a ZeroSeg student."""
    model = {"image_px": 96, "embed_dim": 128, "encoder": {
        "width": 128, "depth": 4, "heads": 2, "patch_px": 8, "activation": "quick_gelu",
        "norm_eps": 1e-5, "pre_norm": True, "positions": "learned"}}  # fmt: skip
    config = from_mapping({**TINY, "model": model})
    student = dense_student.build_dense_student(config.model, config.clip_zss.student)
    params = jax.jit(lambda key: dense_student.init_dense_params(student, key))(jax.random.key(0))
    from_tower = dense_student.init_dense_from_teacher(params, clip.vision_params, config.model)
    images = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    ours = jax.jit(lambda p: dense_student.apply_dense(student, p, images))(from_tower)
    np.testing.assert_allclose(ours, clip.dense(images, "raw"), rtol=1e-4, atol=1e-4)
    shipped = SHIPPED_STUDENT
    trained = load_params(shipped)[0]
    started = dense_student.init_dense_from_zeroseg(params, trained, config.model)
    np.testing.assert_array_equal(
        started["encoder"]["blocks_0"]["mlp"]["fc1"]["kernel"],
        trained["encoder"]["blocks_0"]["mlp"]["fc1"]["kernel"],
    )
    with pytest.raises(
        ValueError, match="clip_zss.student.encoder_weights: .* model.encoder makes it"
    ):
        dense_student.init_dense_from_zeroseg(
            load_params(whole)[0], trained, from_mapping(TINY).model
        )


def test_a_bank_of_more_grids_serves_the_whole_image_alone_and_views(
    prepared, tmp_path, clip, whole
):
    wide = from_mapping({**TINY, "teacher": {"grids": (1, 2)}})
    directory = tmp_path / "bank"
    build(directory, clip, wide)
    # The rows of the whole image are the same forwards: the run is that of the bank of one grid.
    train(configure((directory,)), tmp_path / "one", teacher=clip, options=QUIET)
    np.testing.assert_allclose(losses_of(tmp_path / "one"), losses_of(whole), rtol=2e-4)
    several = dataclasses.replace(configure((directory,)), teacher=wide.teacher)
    train(several, tmp_path / "views", teacher=clip, options=QUIET)
    assert np.isfinite(losses_of(tmp_path / "views")).all()
    assert losses_of(tmp_path / "views") != losses_of(tmp_path / "one")


def test_a_mirrored_image_is_held_against_its_own_views(clip):
    """The teacher's views are not mirrored, so the student's features are turned back for GLM."""
    off = {f"loss.{name}_weight": 0.0 for name in ("local", "pixel", "focal", "dice", "prototype")}
    groups = change({"student.flip": True, "loss.latent": False, **off})
    config = from_mapping({**TINY, "teacher": {"grids": (1, 2)}, "clip_zss": groups})
    student = dense_student.build_dense_student(config.model, config.clip_zss.student)
    text = np.zeros((1, 128), np.float32)
    loss_fn = jax.jit(build_loss(config, student, text))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    views = rng.normal(size=(1, 5, 128)).astype(np.float32)
    rest = {"fused": np.zeros((1, 8, 8), np.int16), "local": np.zeros((1, 4, 128), np.float16)}
    params = jax.jit(lambda key: dense_student.init_dense_params(student, key))(jax.random.key(0))
    memory = {"bank": np.zeros((12, 128), np.float32)}
    keys = {bool(jax.random.bernoulli(k, shape=(1,))[0]): k for k in map(jax.random.key, range(8))}

    def loss(image, views, flipped):
        batch = {"image": image, "features": views, **rest}
        return float(loss_fn(params, batch, keys[flipped], memory)[0])

    # Turned, the student sees `image` itself, whose left is the right of what the teacher saw.
    mirrored = loss(image[:, :, ::-1], views, flipped=True)
    swapped = views[:, [0, 2, 1, 4, 3]]
    assert mirrored == pytest.approx(loss(image, swapped, flipped=False), rel=1e-5)
    assert mirrored != pytest.approx(loss(image, views, flipped=False), rel=1e-3)
