"""CLIP-ZSS objective: dense student, class embeddings, losses and the bank of class tokens.

The bank of past class tokens is part of the train state. It is saved and restored with it, equal on
every device, and a global batch enters it once. With self-training the state counts the steps too,
because the loss changes at one of them. The running statistics of SegFormer's batch norm are
parameters, so that evaluation and exports read them. Source: arXiv 2310.02296.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from zeroseg_jax.config import Config
from zeroseg_jax.data.views import list_windows
from zeroseg_jax.models.clip_zss import losses, regions
from zeroseg_jax.models.clip_zss import student as students
from zeroseg_jax.models.clip_zss.segformer_weights import init_from_segformer
from zeroseg_jax.models.zeroseg.own_terms import cell_weights
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.load import Teacher
from zeroseg_jax.training import trees
from zeroseg_jax.training.checkpoint import load_params
from zeroseg_jax.training.inputs import Inputs
from zeroseg_jax.training.objective import Batch, Findings, Memory, Objective, Params
from zeroseg_jax.training.optimizer import count_steps

_MAX_SEEN, _MAX_UNSEEN = 156, 15  # classes of COCO-Stuff, the largest published split
InitParams = Callable[[jax.Array], Params]


def build(config: Config, teacher: Teacher, inputs: Inputs) -> Objective:
    """Build the objective of a run.

    Args:
      config: settings of the run.
      teacher: frozen CLIP; it embeds the seen classes, and its vision tower initialises the
        student (model.encoder.init).
      inputs: training set with the names of the classes; those of unseen ones are read for
        self-training alone.

    Raises:
      ValueError: initial weights that do not fit the student, or self-training without unseen
        classes.
    """
    student = _build_student(config)
    prompts, begin = config.clip_zss.labels.prompts, config.clip_zss.loss.self_training_begin
    text = embed_names(teacher, inputs.seen_classes, prompts)
    unseen = embed_names(teacher, inputs.unseen_classes if begin else [], prompts)
    if begin and not len(unseen):
        raise ValueError(
            f"clip_zss.loss.self_training_begin: {begin:g} needs unseen classes, and "
            f"clip_zss.labels.split={config.clip_zss.labels.split} has none; set it to 0."
        )
    steps = count_steps(config, inputs.images)
    return _build(config, student, text, unseen, steps, _choose_start(config, student, teacher))


def check_start(config: Config, teacher: Teacher) -> None:
    """Refuse initial weights that do not fit the student; computes no weights.

    Raises:
      ValueError: see build.
    """
    student = _build_student(config)
    jax.eval_shape(_choose_start(config, student, teacher), jax.random.key(0))


def build_abstract(config: Config) -> Objective:
    """Build the objective without teacher and data, with 156 seen classes.

    Parameters start at random values.
    """
    student = _build_student(config)
    width, begin = config.model.embed_dim, config.clip_zss.loss.self_training_begin
    text = np.zeros((_MAX_SEEN, width), np.float32)
    unseen = np.zeros((_MAX_UNSEEN if begin else 0, width), np.float32)
    return _build(
        config, student, text, unseen, 1, lambda key: students.init_dense_params(student, key)
    )


def _build_student(config: Config) -> students.DenseStudent:
    return students.build_dense_student(
        config.model,
        config.clip_zss.student,
        jnp.dtype(config.run.dtype),
        remat=config.run.remat,
        attention=config.run.attention,
    )


def _build(
    config: Config,
    student: students.DenseStudent,
    text: np.ndarray,
    unseen: np.ndarray,
    steps: int,
    init_params: InitParams,
) -> Objective:
    size = (config.clip_zss.loss.memory_size, config.model.embed_dim)

    def init_memory() -> Memory:
        counter = {"step": jnp.int32(0)} if len(unseen) else {}
        return {"bank": jnp.zeros(size, jnp.float32), **counter}

    def update_memory(memory: Memory, batch: Batch) -> Memory:
        tokens = batch["features"][:, 0].astype(jnp.float32)
        counter = {"step": memory["step"] + 1} if len(unseen) else {}
        return {"bank": losses.push_bank(memory["bank"], tokens), **counter}

    loss_fn = build_loss(config, student, text, unseen, steps)
    return Objective(init_params, loss_fn, init_memory, update_memory)


def embed_names(teacher: Teacher, classes: list[list[str]], prompts: str) -> np.ndarray:
    """Embed classes by their synonyms: float32 (N, E), unit rows; N may be 0."""
    if not classes:
        return np.zeros((0, teacher.embed_dim), np.float32)
    return embed_classes(teacher, classes, prompts, cache_directory()).classes


def build_loss(
    config: Config,
    student: students.DenseStudent,
    text: np.ndarray,
    unseen: np.ndarray | None = None,
    steps: int = 1,
) -> Callable[[Params, Batch, jax.Array, Memory], tuple[jax.Array, Findings]]:
    """Build the loss.

    Args:
      config: losses and constants.
      student: module from build_dense_student.
      text: float32 (N, E), embeddings of the seen classes, unit rows.
      unseen: float32 (U, E), those of the unseen classes; None without self-training.
      steps: steps of the run, of which self-training has a share.

    Returns:
      loss_fn(params, batch, key, memory) -> (loss, findings). The batch has "image" uint8
      (B, Hpx, Wpx, 3), "features" (B, V, E) with the whole image in row 0, "fused" int16
      (B, H, W) and "local" (B, K, E); the memory has "bank" (M, E), and "step" int32 () with
      unseen classes.
    """
    settings = config.clip_zss
    mean, std = (jnp.array(v, jnp.float32) for v in (config.data.mean, config.data.std))
    classes = len(text) + settings.regions.max_regions
    windows = list_windows(config)
    unseen = np.zeros((0, text.shape[1]), np.float32) if unseen is None else unseen
    begin = round(settings.loss.self_training_begin * steps)

    def loss_fn(
        params: Params, batch: Batch, key: jax.Array, memory: Memory
    ) -> tuple[jax.Array, Findings]:
        images = (batch["image"].astype(jnp.float32) / 255 - mean) / std
        fused = batch["fused"].astype(jnp.int32)
        flipped = jnp.zeros(len(images), bool)
        if settings.student.flip:
            flipped = jax.random.bernoulli(key, shape=(len(images),))
            images = jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)
            fused = jnp.where(flipped[:, None, None], fused[:, :, ::-1], fused)
        features, statistics = students.apply_dense_train(
            student, params, images, jax.random.fold_in(key, 1)
        )
        b, h, w, width = features.shape
        views = batch["features"].astype(jnp.float32)
        members = regions.region_members(fused, h, w, classes)
        means, present = regions.region_means(features.reshape(b, h * w, width), members)
        prototypes = students.apply_synthesizer(
            student,
            params,
            jax.lax.stop_gradient(means) if settings.loss.stop_gradient else means,
            present,
            views[:, :1],
        )
        teacher = losses.TeacherView(
            views, memory["bank"], jnp.asarray(text), batch["local"], jnp.asarray(unseen)
        )
        loss, metrics = losses.total_loss(
            features, fused, means, present, prototypes, teacher, settings.loss,
            weights=jnp.asarray(cell_weights(h, windows)), flipped=flipped,
            self_train=memory["step"] >= begin if len(unseen) else False,
        )  # fmt: skip
        return loss.mean(), Findings(
            {name: value.mean() for name, value in metrics.items()}, trees.flatten(statistics)
        )

    return loss_fn


def _choose_start(
    config: Config, student: students.DenseStudent, teacher: Teacher
) -> Callable[[jax.Array], Params]:
    """Return init_params: random values, a ZeroSeg student, SegFormer's files or the teacher."""
    settings, model = config.clip_zss.student, config.model
    weights = settings.encoder_weights
    trained = load_params(weights)[0] if weights and settings.encoder == "vit" else None

    def init_params(key: jax.Array) -> Params:
        params = students.init_dense_params(student, key)
        if trained is not None:
            return students.init_dense_from_zeroseg(params, trained, model)
        if weights:
            return init_from_segformer(params, weights, settings)
        if settings.encoder == "vit" and model.encoder.init == "teacher":
            return students.init_dense_from_teacher(params, teacher.vision_params, model)
        return params

    return init_params
