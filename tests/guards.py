"""Values that a refactoring must leave as they are, computed from the package.

`tests/regenerate_guards.py` records them under tests/golden/guards, `tests/test_guards.py` compares
them. The configs here are this file's own, so that a change of another test's config moves none.
"""

import collections
import dataclasses
import hashlib
import importlib
import json
import re
import tarfile
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.main import VERBS, load_verb
from zeroseg_jax.config import from_mapping
from zeroseg_jax.data import bank
from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.joined_banks import FusedSource
from zeroseg_jax.data.playground.scenes import EVALUATION_SEED, SHAPES, STUFF, build_scene, render
from zeroseg_jax.evaluation.baselines import build_baseline
from zeroseg_jax.evaluation.classes import choose_class_names
from zeroseg_jax.evaluation.runner import evaluate, segment_image
from zeroseg_jax.inference.class_vectors import embed_class_names
from zeroseg_jax.inference.model import load
from zeroseg_jax.inference.presets import get_preset
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.models.clip_zss.student import build_dense_student, init_dense_params
from zeroseg_jax.models.zeroseg.student import build_student, init_params
from zeroseg_jax.teacher.checkpoints.config import read_config
from zeroseg_jax.teacher.encode_bank import prepare_bank
from zeroseg_jax.teacher.load import SHIPPED
from zeroseg_jax.teacher.region_labels import prepare_regions
from zeroseg_jax.teacher.towers import TextTower, VisionTower
from zeroseg_jax.training import trees
from zeroseg_jax.training.inputs import describe_batch
from zeroseg_jax.training.loop import Options, train
from zeroseg_jax.training.methods import METHODS
from zeroseg_jax.training.optimizer import build_optimizer
from zeroseg_jax.training.sharding import build_mesh, shard_state, split
from zeroseg_jax.training.state import init_state
from zeroseg_jax.training.step import build_step

FOLDER = Path(__file__).parent / "golden" / "guards"
ARTIFACTS = FOLDER / "artifacts"
JAX_OF_PROGRAMS = "0.10.2"

STEPS = 8
TRAINING = {
    "mesh": {"data": 1},
    "run": {"log_every_steps": 1, "checkpoint_every_steps": 4},
}
ZEROSEG = {
    **TRAINING,
    "model": {
        "image_px": 32,
        "embed_dim": 128,
        "encoder": {"width": 16, "depth": 1, "heads": 2, "patch_px": 8},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "head": {"width": 16, "heads": 2, "stage_depths": (1, 1, 1), "segment_tokens": (8, 4),
                 "z_hidden": 16},
    },
    "loss": {"cell": 1.0},
    "teacher": {"grids": (1, 2)},
    "data": {"images": 16},
    "optim": {"batch_global": 8, "base_rate": 0.1, "steps": STEPS},
}  # fmt: skip
CLIP_ZSS = {
    **TRAINING,
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
    "data": {"images": 16},
    "optim": {"batch_global": 8, "base_rate": 0.02, "steps": STEPS, "schedule": "poly"},
}  # fmt: skip
_SHARD_IMAGES = 8  # two shards of the 16 images

# Students by recipe and variant.
STUDENTS = (
    ("playground", "default"),
    ("playground", "faithful"),
    ("imagenet", "vit_b16"),
    ("clip_zss", "playground"),
    ("clip_zss", "voc"),
)
_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
# config.json as openai/clip-vit-base-patch16 and google/siglip-base-patch16-224 have it.
TOWERS = {
    "clip_b16": {
        "model_type": "clip",
        "projection_dim": 512,
        "vision_config": {**_BASE, "patch_size": 16, "image_size": 224},
        "text_config": {**_BASE, "hidden_size": 512, "num_attention_heads": 8,
                        "intermediate_size": 2048},
    },
    "siglip_b16": {
        "model_type": "siglip",
        "vision_config": {**_BASE, "patch_size": 16, "image_size": 224},
        "text_config": {**_BASE, "vocab_size": 32000, "projection_size": 768},
    },
}  # fmt: skip

# (height, width) of the images, and how many; the student was trained at 96 px.
SQUARES = (((96, 96), 8), ((256, 256), 4))
OTHERS = (((192, 256), 3), ((144, 256), 3), ((1, 1), 1), ((3, 700), 1))
_CLASSES = 6  # asked for in each image
_SCORES_STRIDE = 6  # every sixth pixel's score along both sides is kept
# Model, benchmark, and how many of its first scenes.
REPORTS = (
    ("student", "playground/things", 8),
    ("student", "playground/full", 8),
    ("dense:maskclip", "playground/things", 4),
    ("dense:maskclip", "playground/full", 4),
)


def unpack_old_run(directory):
    """Write the work directory and bank of ARTIFACTS; Python before 3.11.4 has no filters."""
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(ARTIFACTS / "clip_zss_run.tar.xz") as archive:
        archive.extractall(directory, **safely)
    return directory


def quiet(line):
    del line


QUIET = Options(log=quiet)


def name_shapes(tree):
    """Return {"a/b/c": [sides]} of a tree of shapes, sorted by name."""
    return {name: list(leaf.shape) for name, leaf in sorted(trees.flatten(tree).items())}


def describe_student(recipe, variant):
    """Name the parameters of a recipe's student."""
    module = importlib.import_module(f"zeroseg_jax.assets.recipes.{recipe}")
    config = from_mapping(module.get_config(variant).to_dict())
    return name_shapes(_student_shapes(config))


def _student_shapes(config):
    key = jax.random.key(0)
    if config.objective == "clip_zss":
        dense = build_dense_student(config.model, config.clip_zss.student)
        return jax.eval_shape(lambda key: init_dense_params(dense, key), key)
    student = build_student(config.model)
    return jax.eval_shape(lambda key: init_params(student, key), key)


def describe_towers(directory):
    """Name the parameters of both towers of a CLIP or SigLIP, from its config.json alone."""
    config = read_config(directory)
    pixels = jnp.zeros((1, config.image_px, config.image_px, 3))
    ids = jnp.zeros((1, config.context_tokens), jnp.int32)
    shapes = {
        "vision": jax.eval_shape(VisionTower(config).init, jax.random.key(0), pixels)["params"],
        "text": jax.eval_shape(TextTower(config).init, jax.random.key(0), ids)["params"],
    }
    return name_shapes(shapes)


def describe_parameters(scratch):
    """Return the names and shapes of every model's parameters, by model.

    Args:
      scratch: an empty directory.
    """
    models = {
        f"{recipe}_{variant}": describe_student(recipe, variant) for recipe, variant in STUDENTS
    }
    models["clip_playground"] = describe_towers(SHIPPED)
    for name, raw in TOWERS.items():
        directory = scratch / name
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(raw))
        models[name] = describe_towers(directory)
    return models


def lower_step(mapping, devices):
    """Lower the training step of a config; return its StableHLO text without locations."""
    config = from_mapping({**mapping, "mesh": {"data": devices}})
    objective = METHODS[config.objective].build_abstract(config)
    optimizer = build_optimizer(config, STEPS)
    mesh = build_mesh(config, jax.devices()[:devices])
    shapes = jax.eval_shape(lambda: init_state(config, objective, optimizer))
    state = shard_state(shapes, mesh)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split(mesh))
        for name, leaf in describe_batch(config).items()
    }
    return build_step(config, objective, optimizer, mesh, state).lower(state, batch).as_text()


def normalise_symbols(text):
    """Number the module's and the functions' names in order of appearance.

    Custom calls keep their names: those are what the compiler looks up.
    """
    numbers = {}

    def number(match):
        return f"@{numbers.setdefault(match.group(1), len(numbers))}"

    return re.sub(r'(?<!custom_call )@("[^"]*"|[\w$.-]+)', number, text)


def describe_program(text):
    """Return the sha256 of a program, and how often each operation stands in it.

    The counts tell where a program with another sha256 differs.
    """
    text = normalise_symbols(text)
    operations = re.findall(r"\b((?:stablehlo|chlo|sdy|func)\.\w+|call)\b", text)
    return {
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "operations": dict(sorted(collections.Counter(operations).items())),
    }


def describe_programs():
    """Describe the training step of each method on 1 and on 8 devices."""
    methods = {"zeroseg": ZEROSEG, "clip_zss": CLIP_ZSS}
    return {
        f"{name}_{devices}": describe_program(lower_step(mapping, devices))
        for name, mapping in methods.items()
        for devices in (1, 8)
    }


def write_bank(directory, clip):
    """Prepare a bank of two shards with the grids 1 and 2, and its regions for CLIP-ZSS."""
    with mock.patch.object(bank, "SHARD_IMAGES", _SHARD_IMAGES):
        prepare_bank(from_mapping(ZEROSEG), directory, clip, quiet)
        prepare_regions(from_mapping(CLIP_ZSS), directory, clip, quiet)


def digest_bank(directory):
    """Return the sha256 of each file but the pictures, which depend on Pillow's version.

    Sums and sizes of shards are left out of the JSON files: they are the shards' own digests here.
    """
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(_strip_sums(path)).hexdigest()
        for path in files
        if path.suffix != ".png" and not path.name.startswith(".")
    }


def _strip_sums(path):
    if path.suffix != ".json":
        return path.read_bytes()
    content = json.loads(path.read_text())
    content.pop("sha256", None)
    if path.name.startswith("shard-"):
        content.pop("bytes")
    return (json.dumps(content, indent=1) + "\n").encode()


def read_bank(directory):
    """Return what a bank's records hold, each field as one array."""
    source = FusedSource(directory)
    records = [source[i] for i in range(len(source))]
    arrays = {
        name: np.stack([record[name] for record in records])
        for name in ("features", "fused", "local", "image")
    }
    # Images are exact: their digests say as much as their bytes.
    digests = [hashlib.sha256(image).digest() for image in arrays.pop("image")]
    return {**arrays, "image_sha256": np.stack([np.frombuffer(d, np.uint8) for d in digests])}


def train_losses(mapping, workdir, clip, bank_directory=""):
    """Train 8 steps, or those that are left, from WORKDIR/bank or another; see read_losses."""
    config = from_mapping(mapping)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, bank=str(bank_directory))
    )
    train(config, workdir, teacher=clip, options=QUIET)
    return read_losses(workdir)


def read_losses(workdir):
    """Return {step: {"loss...": value}} of a work directory, steps as text."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {
        str(record["step"]): {k: v for k, v in record.items() if k.startswith("loss")}
        for record in map(json.loads, lines)
    }


def draw_images(shapes):
    """Yield scenes of the shapes with the words of each: the scene's own and then others."""
    index = 0
    for (height, width), count in shapes:
        for _ in range(count):
            scene = build_scene(EVALUATION_SEED, index)
            whole = render(scene, max(height, width))[0]
            top = (max(height, width) - height) // 2
            there = [*(thing.shape for thing in scene.things), *scene.stuff]
            words = list(dict.fromkeys([*there, *SHAPES, *STUFF]))[:_CLASSES]
            yield whole[top : top + height, :width], words
            index += 1


def predict(predictor, shapes):
    """Segment the images of `shapes` by the Predictor: masks and scores, keyed by image."""
    found = {}
    for i, (image, words) in enumerate(draw_images(shapes)):
        result = predictor.segment(image, words)
        found |= _keep(i, result.mask, result.scores)
    return found


def segment_for_evaluation(student, shapes):
    """Segment the images of `shapes` as evaluation does, with the words of playground/full."""
    preset = get_preset("zeroseg", "playground/full")
    segmenter = ModelSegmenter(student, preset.normalisation)
    classes = embed_class_names(student.teacher, [[word] for word in SHAPES + STUFF], preset)
    found = {}
    for i, (image, _) in enumerate(draw_images(shapes)):
        labels, scores, _ = segment_image(segmenter, image, classes, preset)
        found |= _keep(i, labels, scores)
    return found


def _keep(i, mask, scores):
    scores = scores[::_SCORES_STRIDE, ::_SCORES_STRIDE]
    return {f"mask_{i:02d}": mask.astype(np.uint8), f"scores_{i:02d}": scores.astype(np.float16)}


def score_benchmarks(student, scratch):
    """Return the IoUs of the shipped student and of its teacher's read-out."""
    found = {}
    for model, name, images in REPORTS:
        benchmark = get_benchmark(name, images=images)
        words, preset = choose_class_names(get_preset("zeroseg", name), benchmark)
        if model == "student":
            segmenter = ModelSegmenter(student, preset.normalisation)
        else:
            segmenter = build_baseline(model, student.teacher, preset)
        output = scratch / f"{len(found)}"
        evaluate(
            segmenter, benchmark, preset, checkpoint=model, output=output, class_names=words,
            classes=embed_class_names(student.teacher, words, preset), panels=0, log=quiet,
        )  # fmt: skip
        report = json.loads((output / "report.json").read_text())
        found[f"{model} on {name}"] = {key: report[key] for key in ("miou", "per_class_iou")}
    return found


def describe_flags():
    """Return {verb: {flag: default}} of the command line."""
    found = {}
    for verb in VERBS:
        _, define = load_verb(verb)
        found[verb] = {name: flag.default for name, flag in define_alone(define).items()}
    return found


def digest_arrays(arrays):
    """Return the sha256 of each array's bytes."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in arrays.items()
    }


def ask_artifact(directory):
    """Load an exported student or a work directory and let it segment one image.

    Returns:
      The step, a mask uint8 (H, W) and scores float32 (H, W).
    """
    student = load(directory)
    name = "zss" if student.kind == "clip_zss" else "zeroseg"
    preset = get_preset(name, "playground/full", {"refine": "none"})
    words = [["star"], ["ring", "hoop"], ["grass"], ["sky"]]
    segmenter = ModelSegmenter(student, preset.normalisation)
    classes = embed_class_names(student.teacher, words, preset)
    image = render(build_scene(EVALUATION_SEED, 5), 48)[0]
    labels, scores, _ = segment_image(segmenter, image, classes, preset)
    return int(student.checkpoint.rpartition(" ")[2]), labels.astype(np.uint8), scores


def list_artifacts(work):
    """Return name and directory of each recorded model; `work` holds the unpacked run."""
    students = [(name, ARTIFACTS / name) for name in ("zeroseg_student", "clip_zss_student")]
    return [*students, ("clip_zss_run", work)]
