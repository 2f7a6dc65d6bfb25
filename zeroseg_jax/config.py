"""Every setting of the project as frozen dataclasses.

A recipe in ``configs/`` is an ``ml_collections.ConfigDict``; it is turned once, at the
edge, into these types by :func:`from_mapping`, so that the code below the entry points
has types and no ``.get``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The ViT encoder of the student (ZeroSeg 3.1; MAE's ViT unless told)."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    patch_px: int = 16
    activation: str = "gelu"  # gelu | quick_gelu
    norm_eps: float = 1e-6
    pre_norm: bool = False  # a LayerNorm before the first block, as CLIP has
    positions: str = "sincos"  # sincos (fixed) | learned
    # scratch | teacher (the CLIP vision tower; needs its width, patch, activation, eps)
    init: str = "scratch"


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The pixel decoder (ZeroSeg 3.1; MAE's defaults)."""

    width: int = 512
    depth: int = 8
    heads: int = 16


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """The segmentation head (ZeroSeg 3.2, GroupViT's grouping)."""

    width: int = 768
    heads: int = 12
    all_levels: bool = False  # own: read the patches after every block of the encoder
    stage_depths: tuple[int, ...] = (2, 2, 1)  # grouping after stage 1 and after stage 2
    segment_tokens: tuple[int, ...] = (32, 8)
    token_std: float = 0.02  # of the segment tokens at the start
    add_positions: bool = True  # sin-cos positions added again at the head's input
    assignment: str = "hard"  # training: hard (straight-through) | soft
    gumbel: bool = True  # training: add Gumbel(0, 1) noise to the assignment scores
    temperature: float = 1.0
    count_eps: float = 1.0  # groups are divided by (assigned patches + count_eps)
    z_hidden: int = 2048  # hidden width of the MLP that gives z
    # learned (GroupViT) | clustered (own: patches get features, and these are clustered)
    grouping: str = "learned"
    # training: cosine to the nearest seed below which a patch seeds a segment; at test time
    # every segment is seeded
    cluster_level: float = 0.7
    cluster_temperature: float = 0.1  # of cosines
    # At test time patches are alike in what they look like, too: tokens of the encoder's middle
    # layer join the features with this weight; 0: features alone, as in training.
    cluster_appearance: float = 1.0
    cluster_iterations: int = 5
    # own: g is the encoder's class token, read out of the patches of its segment
    region_readout: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The student."""

    image_px: int = 224
    embed_dim: int = 768  # E, width of the teacher's projected features
    mask_ratio: float = 0.6
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    head: HeadConfig = HeadConfig()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Terms and reductions (ZeroSeg 3.3; open choices of the paper as fields)."""

    reconstruction: float = 1.0  # weights
    distillation: float = 1.0
    matching: float = 1.0
    cell: float = 0.0  # own: position-aware cell term
    inside: float = 0.0  # own: each segment to the views that show it whole and large
    patch: float = 0.0  # own: the cell term for each patch by itself, before grouping
    centre: bool = True  # start g and z at the bank's mean feature
    normalise_patches: bool = True  # reconstruct patches of mean 0, variance 1
    masked_only: bool = True
    features: str = "raw"  # raw | unit (L2-normalise student and teacher features)
    channels: str = "mean"  # mean | sum over the E channels of an L1 distance
    terms: str = "mean"  # mean | sum over the V views and the S2 tokens
    distil_views: str = "all"  # z follows all views (multi-scale) | whole (the whole image alone)
    matching_mode: str = "nearest"  # nearest (paper) | coverage (own: also each view to a token)


@dataclasses.dataclass(frozen=True)
class LabelsConfig:
    """Label maps of the seen classes (CLIP-ZSS)."""

    # seen and unseen classes, a name of data/benchmarks/splits.py; none: no labels at all
    split: str = "playground"
    directory: str = ""  # data.source == folder: folder of index masks, one an image
    zero_is_void: bool = False  # in the masks class k is written k + 1, and 0 is unlabelled
    stride_px: int = 4  # pixels of the training square per pixel of the label map
    prompts: str = "simple"  # prompt set of the seen classes, see teacher/class_embeddings.py


@dataclasses.dataclass(frozen=True)
class DenseStudentConfig:
    """Student and synthesizer of CLIP-ZSS."""

    encoder: str = "vit"  # vit (as model.encoder says) | mit_b0 .. mit_b5 | mit_tiny
    # SegFormer's directory; with encoder == vit: a trained ZeroSeg student
    encoder_weights: str = ""
    head_width: int = 256  # of SegFormer's head
    flip: bool = True  # random horizontal flip
    synthesizer_width: int = 512
    synthesizer_depth: int = 2
    synthesizer_heads: int = 8


@dataclasses.dataclass(frozen=True)
class RegionsConfig:
    """Regions of the unannotated part of an image, made by prepare (CLIP-ZSS)."""

    teacher_px: int = 0  # image side at which the teacher's dense tokens are read; 0: image_px
    readout: str = "maskclip"  # of the dense tokens, see teacher/readouts.py
    seed_windows: tuple[int, ...] = (8, 16)  # O, sides of the seeds' windows in tokens
    kmeans_iterations: int = 10
    merge_cosine: float = 0.85  # lambda, cosine from which clusters are one region
    min_share: float = 0.01  # share of the grid; smaller regions join their neighbours
    max_regions: int = 16  # K, latent classes per image
    local_view: str = "masked"  # teacher's view of a region: masked | cropped | by_size (own)


@dataclasses.dataclass(frozen=True)
class ClipZssLossConfig:
    """Terms and constants of CLIP-ZSS; a weight of 0 leaves a term out."""

    pixel_weight: float = 1.0  # cross-entropy
    focal_weight: float = 100.0  # NEL, ZegCLIP's weights
    dice_weight: float = 1.0
    global_weight: float = 1.0  # GLM
    prototype_weight: float = 1.0  # binary cross-entropy that teaches the synthesizer
    local_weight: float = 0.0  # the successor's local distillation
    local_form: str = "infonce"  # infonce (the successor's) | cosine (own)
    temperature: float = 0.07  # tau, of both InfoNCE losses
    memory_size: int = 24  # past class tokens that serve as negatives of GLM
    seen_scale: float = 14.3  # alpha, multiplies cosines to seen classes
    latent_scale: float = 14.3  # beta, multiplies cosines to latent prototypes
    latent: bool = True  # PLM: latent regions take part
    latent_importance: float = 0.5  # weight of latent classes in the pixel losses; seen have 1
    stop_gradient: bool = True  # between the dense features and the prototypes made of them


@dataclasses.dataclass(frozen=True)
class ClipZssConfig:
    """CLIP-ZSS (objective == clip_zss), read by nothing else; docs/clip_zss.md."""

    labels: LabelsConfig = LabelsConfig()
    student: DenseStudentConfig = DenseStudentConfig()
    regions: RegionsConfig = RegionsConfig()
    loss: ClipZssLossConfig = ClipZssLossConfig()


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """The frozen CLIP and the views it is shown."""

    directory: str = "playground"  # a directory in Hugging Face's layout, or the shipped CLIP
    grids: tuple[int, ...] = (1, 2, 3, 4)  # n x n views each; V = sum of n * n
    overlap: bool = False  # own: windows of the same sides at half the stride, (2n - 1)^2 each
    dtype: str = "float16"  # of the features in the bank


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are stored."""

    source: str = "playground"  # playground | folder | arrayrecord | tar | tfds
    # folder of images, *.arrayrecord or *.tar files; tfds: NAME:SPLIT
    directory: str = ""
    bank: str = ""  # written by prepare, read by train; empty: WORKDIR/bank
    features: str = "bank"  # bank | live (the teacher runs inside training)
    images: int = 8192  # playground: scenes 0..images-1 of the seed; else at most so many, 0 = all
    scene_seed: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in [0, 1], student input
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    names: str = ""  # folder: a file of stems, one a line, that are taken; empty: all pictures
    max_pixels: int = 50_000_000  # larger images are skipped by name
    workers: int = 0  # grain worker processes; 0: threads
    prefetch_batches: int = 4


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with MAE's linear rule: rate = base_rate * batch_global / 256."""

    base_rate: float = 1.5e-4
    batch_global: int = 4096
    steps: int = 0  # total; 0: epochs * images // batch_global
    epochs: float = 80.0
    warmup_fraction: float = 0.25
    schedule: str = "cosine"  # after the warm-up: cosine | poly (power 0.9, mmsegmentation's)
    weight_decay: float = 0.05
    b1: float = 0.9
    b2: float = 0.95
    clip_norm: float = 0.0  # 0: no clipping
    encoder_rate_scale: float = 1.0  # own: multiplies the encoder's learning rate
    accumulate_steps: int = 1  # a batch goes through in so many pieces, one update for all


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices: data x fsdp x tensor; the batch is split over the first two."""

    data: int = -1  # copies of the model; -1: as many as there are devices for
    fsdp: int = 1  # devices that share one copy, each with a part of every matrix
    tensor: int = 1  # devices that share each matrix product


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The loop: seeds, memory, logs, checkpoints."""

    seed: int = 0
    dtype: str = "float32"  # compute dtype: float32 | bfloat16
    # what a block computes again on the way back: none | dots (all but matrix products) | full
    remat: str = "none"
    # ZeroSeg's encoder and decoder as one compiled loop, see models/layers.py: run_stack.
    scan_blocks: bool = False
    log_every_steps: int = 50
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 2
    pictures_every_steps: int = 0  # segment pictures for TensorBoard; 0: none


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "zeroseg"
    objective: str = "zeroseg"  # zeroseg | clip_zss
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    clip_zss: ClipZssConfig = ClipZssConfig()
    teacher: TeacherConfig = TeacherConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = MeshConfig()
    run: RunConfig = RunConfig()


_CLIP_ZSS_TERMS = ("pixel", "focal", "dice", "global", "prototype", "local")


# Old field name -> name today, for manifests and exported students made before the grouping.
OLD_NAMES = {
    "zss.split": "clip_zss.labels.split",
    "zss.labels": "clip_zss.labels.directory",
    "zss.zero_is_nothing": "clip_zss.labels.zero_is_void",
    "zss.label_stride": "clip_zss.labels.stride_px",
    "zss.prompts": "clip_zss.labels.prompts",
    "zss.encoder": "clip_zss.student.encoder",
    "zss.encoder_weights": "clip_zss.student.encoder_weights",
    "zss.head_width": "clip_zss.student.head_width",
    "zss.flip": "clip_zss.student.flip",
    "zss.synthesizer_width": "clip_zss.student.synthesizer_width",
    "zss.synthesizer_depth": "clip_zss.student.synthesizer_depth",
    "zss.synthesizer_heads": "clip_zss.student.synthesizer_heads",
    "zss.dense_px": "clip_zss.regions.teacher_px",
    "zss.readout": "clip_zss.regions.readout",
    "zss.windows": "clip_zss.regions.seed_windows",
    "zss.iterations": "clip_zss.regions.kmeans_iterations",
    "zss.merge_above": "clip_zss.regions.merge_cosine",
    "zss.least_share": "clip_zss.regions.min_share",
    "zss.regions_max": "clip_zss.regions.max_regions",
    "zss.local_view": "clip_zss.regions.local_view",
    "zss.local_form": "clip_zss.loss.local_form",
    "zss.temperature": "clip_zss.loss.temperature",
    "zss.bank_size": "clip_zss.loss.memory_size",
    "zss.alpha": "clip_zss.loss.seen_scale",
    "zss.beta": "clip_zss.loss.latent_scale",
    "zss.latent": "clip_zss.loss.latent",
    "zss.latent_weight": "clip_zss.loss.latent_importance",
    "zss.stop_gradient": "clip_zss.loss.stop_gradient",
    **{f"zss.loss_{name}": f"clip_zss.loss.{name}_weight" for name in _CLIP_ZSS_TERMS},
}


class ConfigError(ValueError):
    """A setting that cannot be; the message is one sentence that names the field."""


_CHOICES = {
    "objective": ("zeroseg", "clip_zss"),
    "model.encoder.activation": ("gelu", "quick_gelu"),
    "model.encoder.positions": ("sincos", "learned"),
    "model.encoder.init": ("scratch", "teacher"),
    "model.head.assignment": ("hard", "soft"),
    "model.head.grouping": ("learned", "clustered"),
    "loss.features": ("raw", "unit"),
    "loss.channels": ("mean", "sum"),
    "loss.terms": ("mean", "sum"),
    "loss.distil_views": ("all", "whole"),
    "loss.matching_mode": ("nearest", "coverage"),
    "optim.schedule": ("cosine", "poly"),
    "clip_zss.student.encoder": ("vit", *(f"mit_b{i}" for i in range(6)), "mit_tiny"),
    "clip_zss.regions.readout": ("raw", "maskclip", "sclip", "clearclip", "naclip"),
    "clip_zss.regions.local_view": ("masked", "cropped", "by_size"),
    "clip_zss.loss.local_form": ("infonce", "cosine"),
    "teacher.dtype": ("float16", "float32"),
    "data.source": ("playground", "folder", "arrayrecord", "tar", "tfds"),
    "data.features": ("bank", "live"),
    "run.dtype": ("float32", "bfloat16"),
    "run.remat": ("none", "dots", "full"),
}


def from_mapping(mapping: Mapping[str, Any]) -> Config:
    """Build a Config from nested plain mappings; fields left out keep their defaults.

    Names of OLD_NAMES are read as their names today.

    Raises:
      ConfigError: an unknown field (with the nearest known one), a value of the wrong type,
        or one that is out of range.
    """
    config = _build(Config, rename_old(mapping), "")
    validate(config)
    return config


def rename_old(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested mapping with the names of OLD_NAMES replaced by those of today."""
    renamed = {name: value for name, value in mapping.items() if name != "zss"}
    for old, value in mapping.get("zss", {}).items():
        if f"zss.{old}" not in OLD_NAMES:
            raise ConfigError(f"zss.{old}: no such field; use the fields of clip_zss.")
        group, part, field = OLD_NAMES[f"zss.{old}"].split(".")
        groups = renamed[group] = {**renamed.get(group, {})}
        groups[part] = {field: value, **groups.get(part, {})}
    return renamed


def to_mapping(config: Config) -> dict[str, Any]:
    """Return `config` as nested dicts of plain values."""
    return dataclasses.asdict(config)


def _build(kind: type, mapping: Mapping[str, Any], prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise ConfigError(f"{prefix}{key}: no such field; {suggest(key, fields, prefix)}")
        default = getattr(kind(), key)
        name = f"{prefix}{key}"
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name}: {value!r} is not a group of fields.")
            values[key] = _build(type(default), value, f"{name}.")
        else:
            values[key] = _cast(name, value, default)
    return kind(**values)


def _cast(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and value:
            return tuple(_cast(f"{name}[{i}]", v, default[0]) for i, v in enumerate(value))
        raise ConfigError(f"{name}: {value!r} is not a list of {type(default[0]).__name__}.")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{name}: {value!r} is not of type {type(default).__name__}.")
    return value


def validate(config: Config) -> None:
    """Check ranges and the fit of fields to each other.

    Raises:
      ConfigError: the first setting that cannot be.
    """
    for name, choices in _CHOICES.items():
        value = _get(config, name)
        if value not in choices:
            raise ConfigError(f"{name}: {value!r} is not one of {', '.join(choices)}.")
    for name in _POSITIVE:
        value = _get(config, name)
        if min(value) <= 0 if isinstance(value, tuple) else value <= 0:
            raise ConfigError(f"{name}: {value} is not positive.")
    for name in _NOT_NEGATIVE:
        if _get(config, name) < 0:
            raise ConfigError(f"{name}: {_get(config, name)} is negative; use 0 or more.")
    _validate_model(config.model)
    grids = config.teacher.grids
    if grids[0] != 1:
        raise ConfigError(
            f"teacher.grids: {grids} does not begin with 1, but the first view is the whole image."
        )
    if len(set(grids)) != len(grids):
        raise ConfigError(f"teacher.grids: {grids} holds a grid twice.")
    if len(grids) == 1 and config.objective == "zeroseg" and config.loss.matching:
        raise ConfigError(
            f"teacher.grids: {grids} needs a second grid, as loss.matching has no region else."
        )
    if max(grids) > config.model.image_px:
        raise ConfigError(
            f"teacher.grids: {max(grids)} cells do not fit a side of {config.model.image_px} px."
        )
    if config.data.source != "playground" and not config.data.directory:
        raise ConfigError(
            f"data.directory: empty; say where the images are, data.source={config.data.source}."
        )
    if config.objective == "clip_zss":
        _validate_clip_zss(config)
    if config.loss.patch and config.model.head.grouping != "clustered":
        raise ConfigError("loss.patch: needs model.head.grouping='clustered'.")
    _validate_mesh(config)
    if not 0 <= config.optim.warmup_fraction < 1:
        raise ConfigError(
            f"optim.warmup_fraction: {config.optim.warmup_fraction} is outside [0, 1)."
        )


def _validate_clip_zss(config: Config) -> None:
    labels, student = config.clip_zss.labels, config.clip_zss.student
    regions, loss, side = config.clip_zss.regions, config.clip_zss.loss, config.model.image_px
    if config.data.features != "bank":
        raise ConfigError(
            "data.features: CLIP-ZSS reads regions that prepare makes; use 'bank' and run prepare."
        )
    if side % labels.stride_px:
        raise ConfigError(
            f"clip_zss.labels.stride_px: {labels.stride_px} does not divide model.image_px {side}."
        )
    if student.encoder != "vit" and side % 32:
        raise ConfigError(
            f"model.image_px: {side} is not a multiple of 32, as {student.encoder} needs."
        )
    if student.synthesizer_width % student.synthesizer_heads:
        raise ConfigError(
            f"clip_zss.student.synthesizer_width: {student.synthesizer_width} is not a multiple "
            f"of {student.synthesizer_heads} heads."
        )
    if not -1 <= regions.merge_cosine <= 1:
        raise ConfigError(
            f"clip_zss.regions.merge_cosine: {regions.merge_cosine} is no cosine; use -1 to 1."
        )
    if labels.split == "none" and (loss.prototype_weight or not loss.latent):
        raise ConfigError(
            "clip_zss.labels.split: 'none' has no seen classes; set "
            "clip_zss.loss.prototype_weight=0 and clip_zss.loss.latent=True."
        )
    if labels.split != "none" and config.data.source == "folder" and not labels.directory:
        raise ConfigError(
            "clip_zss.labels.directory: empty; name the folder of index masks, or set "
            "clip_zss.labels.split='none'."
        )
    if not any(getattr(loss, f"{name}_weight") for name in _CLIP_ZSS_TERMS):
        raise ConfigError("clip_zss.loss: every term has weight 0; give one a weight.")


def _validate_mesh(config: Config) -> None:
    data, tensor = config.mesh.data, config.mesh.tensor
    if data != -1 and data < 1:
        raise ConfigError(f"mesh.data: {data} is not positive; use -1 for all devices.")
    for name in ("encoder", "decoder", "head"):
        heads = getattr(config.model, name).heads
        if heads % tensor:
            raise ConfigError(
                f"mesh.tensor: {tensor} does not divide the {heads} heads of model.{name}."
            )


def _validate_model(model: ModelConfig) -> None:
    patch = model.encoder.patch_px
    if model.image_px % patch:
        raise ConfigError(
            f"model.image_px: {model.image_px} is not a multiple of model.encoder.patch_px {patch}."
        )
    if not 0 <= model.mask_ratio < 1:
        raise ConfigError(f"model.mask_ratio: {model.mask_ratio} is outside [0, 1).")
    if int((model.image_px // patch) ** 2 * (1 - model.mask_ratio)) < 1:
        raise ConfigError(f"model.mask_ratio: {model.mask_ratio} leaves no visible patch.")
    for name in ("encoder", "decoder", "head"):
        part = getattr(model, name)
        if part.width % part.heads:
            raise ConfigError(
                f"model.{name}.width: {part.width} is not a multiple of {part.heads} heads."
            )
        if part.width % 4:
            raise ConfigError(
                f"model.{name}.width: {part.width} is not a multiple of 4, "
                "which 2-D sine-cosine positions need."
            )
    head = model.head
    if len(head.stage_depths) != len(head.segment_tokens) + 1:
        raise ConfigError(
            f"model.head.stage_depths: {head.stage_depths} needs one entry more than "
            f"model.head.segment_tokens {head.segment_tokens}."
        )


_POSITIVE = (
    "model.image_px", "model.embed_dim", "model.encoder.width", "model.encoder.depth",
    "model.encoder.heads", "model.encoder.mlp_ratio", "model.encoder.patch_px",
    "model.encoder.norm_eps", "model.decoder.width", "model.decoder.depth",
    "model.decoder.heads", "model.head.width", "model.head.heads", "model.head.stage_depths",
    "model.head.segment_tokens", "model.head.temperature", "model.head.count_eps",
    "model.head.z_hidden", "model.head.cluster_temperature", "model.head.cluster_iterations",
    "teacher.grids", "data.max_pixels", "data.std",
    "clip_zss.labels.stride_px", "clip_zss.student.head_width", "clip_zss.regions.seed_windows",
    "clip_zss.regions.kmeans_iterations", "clip_zss.regions.max_regions",
    "clip_zss.loss.temperature", "clip_zss.loss.memory_size", "clip_zss.loss.seen_scale",
    "clip_zss.loss.latent_scale", "clip_zss.student.synthesizer_width",
    "clip_zss.student.synthesizer_depth", "clip_zss.student.synthesizer_heads",
    "data.prefetch_batches", "optim.base_rate", "optim.batch_global", "optim.accumulate_steps",
    "mesh.fsdp", "mesh.tensor",
    "run.log_every_steps", "run.checkpoint_every_steps", "run.keep_checkpoints",
)  # fmt: skip
_NOT_NEGATIVE = (
    "loss.reconstruction", "loss.distillation", "loss.matching", "loss.cell", "loss.inside",
    "loss.patch", "data.images", "data.scene_seed", "data.workers", "optim.steps",
    "clip_zss.regions.teacher_px", "clip_zss.regions.min_share", "clip_zss.loss.latent_importance",
    *(f"clip_zss.loss.{name}_weight" for name in _CLIP_ZSS_TERMS),
    "model.head.cluster_appearance", "optim.epochs", "optim.weight_decay", "optim.clip_norm",
    "optim.encoder_rate_scale", "run.seed", "run.pictures_every_steps",
)  # fmt: skip


def _get(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the end of an error about an unknown name: its closest match, or all known names.

    Args:
      name: unknown name.
      known: valid names.
      prefix: text before the suggested name, for example the group of a field.
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}."
