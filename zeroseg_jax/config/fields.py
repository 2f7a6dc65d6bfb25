"""Settings of a run: frozen dataclasses with the type, choices, bounds and meaning of each field.

Bounds reject typing errors before a device is used. The largest width is 16,384, where one square
matrix has 1 GB in float32. The largest depth is 128 blocks, the largest side 4,096 px, the largest
weight of a loss 10,000. Counts of images and steps fit into 32 bits. NaN and infinity are rejected.
A text field whose default is "" is optional; the others are required.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

_INT32, _UINT32 = 2**31 - 1, 2**32 - 1


def number(default: Any, **limits: float) -> Any:
    """Declare a number, or a tuple of numbers, with the limits that reading.py checks.

    Args:
      default: value of the field.
      limits: least and most (inclusive), below (exclusive), multiple (divisor).
    """
    return dataclasses.field(default=default, metadata=limits)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """ViT encoder of the student (ZeroSeg 3.1; MAE's ViT by default)."""

    width: int = number(768, least=4, most=16384, multiple=4)  # 2-D sine-cosine positions need 4
    depth: int = number(12, least=1, most=128)  # number of blocks
    heads: int = number(12, least=1, most=256)  # number of attention heads
    mlp_ratio: float = number(4.0, least=0.25, most=16)  # hidden width of the MLP / width
    patch_px: int = number(16, least=1, most=256)  # side of a patch
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    norm_eps: float = number(1e-6, least=1e-12, most=1e-2)  # epsilon of the LayerNorms
    pre_norm: bool = False  # LayerNorm before the first block, as in CLIP
    positions: Literal["sincos", "learned"] = "sincos"  # position embedding; sincos is fixed
    # start: random, or the CLIP vision tower (needs its width, patch, activation, epsilon)
    init: Literal["scratch", "teacher"] = "scratch"
    # own, after training: share of the teacher's tower in the encoder's weights (WiSE-FT)
    teacher_share: float = number(0.0, least=0, most=1)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Pixel decoder (ZeroSeg 3.1; MAE's defaults)."""

    width: int = number(512, least=4, most=16384, multiple=4)
    depth: int = number(8, least=1, most=128)  # number of blocks
    heads: int = number(16, least=1, most=256)


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Segmentation head (ZeroSeg 3.2, GroupViT's grouping)."""

    width: int = number(768, least=4, most=16384, multiple=4)
    heads: int = number(12, least=1, most=256)
    all_levels: bool = False  # own: read the patches after every block of the encoder
    stage_depths: tuple[int, ...] = number((2, 2, 1), least=1, most=128)  # blocks of each stage
    segment_tokens: tuple[int, ...] = number((32, 8), least=1, most=4096)  # after stages 1, 2
    token_std: float = number(0.02, least=0, most=1)  # standard deviation of initial tokens
    add_positions: bool = True  # sine-cosine positions added again at the head's input
    assignment: Literal["hard", "soft"] = "hard"  # training; hard is straight-through
    gumbel: bool = True  # training: Gumbel(0, 1) noise on the assignment scores
    temperature: float = number(1.0, least=1e-4, most=100)  # of the assignment softmax
    count_eps: float = number(1.0, least=1e-6, most=1e3)  # added to the patch count of a group
    # own: centred subtracts each segment's mean score over the image's patches before the softmax;
    # standardised also divides by the deviation of the image's scores, per_segment by that of the
    # segment's own, so that no segment has the largest scores at most patches
    scores: Literal["raw", "centred", "standardised", "per_segment"] = "raw"
    # own: g passes the block, norm and MLP that give z (GroupViT's inference) instead of a layer
    # of its own, so that every term that trains z trains what is scored
    shared_projection: bool = False
    z_hidden: int = number(2048, least=1, most=65536)  # hidden width of the MLP that gives z
    # own: clustered gives each patch a feature and clusters these
    grouping: Literal["learned", "clustered"] = "learned"
    # training: cosine to the nearest seed below which a patch seeds a new segment
    cluster_level: float = number(0.7, least=-1, most=1)
    cluster_temperature: float = number(0.1, least=1e-4, most=100)  # divides cosines
    # test time: weight of middle-layer encoder tokens beside the features; 0: features alone
    cluster_appearance: float = number(1.0, least=0, most=100)
    cluster_iterations: int = number(5, least=1, most=1000)
    # test time: number of clusters; 0: that of training, the last of segment_tokens
    cluster_segments: int = number(0, least=0, most=4096)
    # own, test time: maps of segments between patches: bilinear, or along the edges of the image
    upsampling: Literal["bilinear", "guided"] = "bilinear"
    # guided: half a window over the short side; ridge in squared units of the standardised image
    upsampling_radius: float = number(1 / 6, least=0, most=1)
    upsampling_eps: float = number(3e-3, least=1e-4, most=100)
    region_readout: bool = False  # own: g is the class token, pooled over its segment
    # own, test time: share of the image's mean segment that is subtracted from each, as context
    context_share: float = number(0.0, least=0, most=1)

    @property
    def test_segments(self) -> int:
        """S2 at test time."""
        return self.cluster_segments or self.segment_tokens[-1]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Student."""

    image_px: int = number(224, least=16, most=4096)  # side of the training square
    embed_dim: int = number(768, least=0, most=16384)  # E, width of teacher features; 0: as found
    mask_ratio: float = number(0.6, least=0, below=1)  # share of masked patches (ZeroSeg)
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    head: HeadConfig = HeadConfig()


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights and reductions of ZeroSeg's terms (ZeroSeg 3.3; a weight of 0 skips the term)."""

    reconstruction: float = number(1.0, least=0, most=1e4)
    distillation: float = number(1.0, least=0, most=1e4)
    matching: float = number(1.0, least=0, most=1e4)
    cell: float = number(0.0, least=0, most=1e4)  # own: position-aware term of grid cells
    inside: float = number(0.0, least=0, most=1e4)  # own: segments to views that hold them whole
    patch: float = number(0.0, least=0, most=1e4)  # own: cell term of each patch before grouping
    dense: float = number(0.0, least=0, most=1e4)  # own: visible patches to teacher.readout's
    centre: bool = True  # own: g and z start at the bank's mean feature
    normalise_patches: bool = True  # reconstruction of patches with mean 0, variance 1 (MAE)
    masked_only: bool = True  # reconstruction of masked patches only (MAE)
    features: Literal["raw", "unit"] = "raw"  # unit: L2-normalised student and teacher features
    channels: Literal["mean", "sum"] = "mean"  # over the E channels of an L1 distance
    terms: Literal["mean", "sum"] = "mean"  # over the V views and the S2 tokens
    distil_views: Literal["all", "whole"] = "all"  # views that z follows: all, or whole image
    # own: coverage matches in both directions; located matches a segment to the region that
    # overlaps it most
    matching_mode: Literal["nearest", "coverage", "located"] = "nearest"


@dataclasses.dataclass(frozen=True)
class LabelsConfig:
    """Label maps of the seen classes (CLIP-ZSS)."""

    split: str = "playground"  # name in data/benchmarks/splits.py; none: no labels
    directory: str = ""  # with data.source=folder: folder of index masks, one per image
    zero_is_void: bool = False  # masks hold class k as k + 1, and 0 is unlabelled
    stride_px: int = number(4, least=1, most=256)  # training pixels per pixel of the label map
    # prompt set of the seen classes, see teacher/prompts.py
    prompts: Literal[
        "simple", "subset", "imagenet", "playground", "tcl", "maskclip", "zegclip", "zegclip_single"
    ] = "simple"


@dataclasses.dataclass(frozen=True)
class DenseStudentConfig:
    """Student and synthesizer of CLIP-ZSS; vit is the encoder of model.encoder."""

    encoder: Literal[
        "vit", "mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5", "mit_tiny"
    ] = "vit"
    encoder_weights: str = ""  # SegFormer's directory; with vit: a trained ZeroSeg student
    head_width: int = number(256, least=1, most=16384)  # width of SegFormer's head
    head_norm: Literal["none", "batch"] = "none"  # of SegFormer's head; batch is SegFormer's own
    flip: bool = True  # random horizontal flip
    # SegFormer's encoder: share of residual branches dropped in the last block, from 0 in the first
    drop_path: float = number(0.0, least=0, below=1)
    head_dropout: float = number(0.0, least=0, below=1)  # share of channels of SegFormer's head
    synthesizer_width: int = number(512, least=1, most=16384)
    synthesizer_depth: int = number(2, least=1, most=128)  # number of blocks
    synthesizer_heads: int = number(8, least=1, most=256)


@dataclasses.dataclass(frozen=True)
class RegionsConfig:
    """Regions of the unannotated part of an image, made by prepare (CLIP-ZSS)."""

    teacher_px: int = number(0, least=0, most=4096)  # image side for dense tokens; 0: image_px
    readout: Literal["raw", "maskclip", "sclip", "clearclip", "naclip", "scclip", "proxy"] = (
        "maskclip"
    )
    seed_windows: tuple[int, ...] = number((8, 16), least=1, most=256)  # O, sides in tokens
    kmeans_iterations: int = number(10, least=1, most=1000)
    merge_cosine: float = number(0.85, least=-1, most=1)  # lambda; more alike clusters merge
    min_share: float = number(0.01, least=0, most=1)  # of the grid; smaller regions are merged
    max_regions: int = number(16, least=1, most=1024)  # K, latent classes per image
    local_view: Literal["masked", "cropped", "by_size"] = "masked"  # by_size is own


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random scale, crop and colour of CLIP-ZSS's training images, as mmsegmentation's."""

    # least and most factor of the side: above 1 a crop is cut, below 1 the rest is padded
    scales: tuple[float, float] = number((1.0, 1.0), least=0.1, most=10)
    # largest share of one class in a crop (mmsegmentation's cat_max_ratio); 1: any crop
    class_share: float = number(1.0, least=0.05, most=1)
    colour: bool = False  # brightness, contrast, saturation and hue


@dataclasses.dataclass(frozen=True)
class ClipZssLossConfig:
    """Terms and constants of CLIP-ZSS; a weight of 0 skips the term."""

    pixel_weight: float = number(1.0, least=0, most=1e4)  # cross-entropy
    focal_weight: float = number(100.0, least=0, most=1e4)  # NEL (ZegCLIP's weight)
    dice_weight: float = number(1.0, least=0, most=1e4)
    global_weight: float = number(1.0, least=0, most=1e4)  # GLM
    prototype_weight: float = number(1.0, least=0, most=1e4)  # BCE that trains the synthesizer
    local_weight: float = number(0.0, least=0, most=1e4)  # local distillation (CLIP-to-Seg)
    local_form: Literal["infonce", "cosine"] = "infonce"  # cosine is own
    temperature: float = number(0.07, least=1e-4, most=100)  # tau of both InfoNCE losses
    memory_size: int = number(24, least=1, most=65536)  # M, past class tokens (CLIP-to-Seg)
    seen_scale: float = number(14.3, least=1e-3, most=1e3)  # alpha, factor of seen logits
    seen_form: Literal["product", "cosine"] = "cosine"  # of seen logits; cosine is own
    latent_scale: float = number(14.3, least=1e-3, most=1e3)  # beta, multiplies cosines
    latent: bool = True  # PLM: latent regions take part
    latent_importance: float = number(0.5, least=0, most=100)  # of latent classes; seen have 1
    stop_gradient: bool = True  # from prototypes into the dense features
    # share of the steps after which the pixels of regions follow the unseen class that the student
    # scores highest (ZegCLIP's transductive self-training); 0: never
    self_training_begin: float = number(0.0, least=0, below=1)


@dataclasses.dataclass(frozen=True)
class ClipZssConfig:
    """CLIP-ZSS (objective=clip_zss); no other objective reads it, see docs/clip_zss.md."""

    labels: LabelsConfig = LabelsConfig()
    student: DenseStudentConfig = DenseStudentConfig()
    regions: RegionsConfig = RegionsConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: ClipZssLossConfig = ClipZssLossConfig()


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """Frozen CLIP and its views of an image."""

    directory: str = "playground"  # directory, alias or Hub repository; playground ships
    grids: tuple[int, ...] = number((1, 2, 3, 4), least=1, most=16)  # n x n views each
    overlap: bool = False  # own: windows at half the stride, (2n - 1)^2 per grid
    dtype: Literal["float16", "float32"] = "float16"  # of the features in the bank
    # where prepare cuts and resizes views; auto: device, on a CPU host
    cut: Literal["auto", "host", "device"] = "auto"
    affinity: str = ""  # second vision tower, for a read-out proxy alone
    # dense read-out that loss.dense follows; CLIP-ZSS has its own, clip_zss.regions.readout
    readout: Literal["raw", "maskclip", "sclip", "clearclip", "naclip", "scclip", "proxy"] = (
        "maskclip"
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Source and storage of the images."""

    source: Literal["playground", "folder", "arrayrecord", "tar", "tfds"] = "playground"
    directory: str = ""  # folder of images, *.arrayrecord or *.tar files; tfds: NAME:SPLIT
    bank: str = ""  # bank that prepare writes and train reads; empty: WORKDIR/bank
    features: Literal["bank", "live"] = "bank"  # live: the teacher runs inside training
    images: int = number(8192, least=0, most=_INT32)  # playground: scenes; else limit, 0: all
    scene_seed: int = number(0, least=0, most=_UINT32)
    mean: tuple[float, float, float] = number((0.485, 0.456, 0.406), least=0, most=1)  # of RGB
    std: tuple[float, float, float] = number((0.229, 0.224, 0.225), least=1e-3, most=10)
    names: str = ""  # folder: file of stems to use, one per line; empty: all images
    max_pixels: int = number(50_000_000, least=1, most=_INT32)  # larger images are skipped
    draft: bool = (
        False  # prepare: JPEGs of twice the needed size are decoded at a half to an eighth
    )
    workers: int = number(0, least=0, most=1024)  # grain worker processes; 0: threads
    prefetch_batches: int = number(4, least=1, most=1024)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with MAE's linear rule: rate = base_rate * batch_global / 256."""

    base_rate: float = number(1.5e-4, least=1e-12, most=1e3)
    batch_global: int = number(4096, least=1, most=2**20)  # images per update, on all devices
    steps: int = number(0, least=0, most=_INT32)  # total; 0: epochs * images // batch_global
    epochs: float = number(80.0, least=0, most=1e6)
    warmup_fraction: float = number(0.25, least=0, below=1)  # of the steps
    # decay after the warm-up; poly has power 0.9; poly_from_start falls during the warm-up too
    schedule: Literal["cosine", "poly", "poly_from_start"] = "cosine"
    weight_decay: float = number(0.05, least=0, most=10)
    b1: float = number(0.9, least=0, below=1)
    b2: float = number(0.95, least=0, below=1)
    first_moment: Literal["float32", "bfloat16"] = "float32"  # dtype in which it is kept
    clip_norm: float = number(0.0, least=0, most=1e6)  # global gradient norm; 0: no clipping
    encoder_rate_scale: float = number(1.0, least=0, most=1e3)  # own: multiplies encoder's rate
    accumulate_steps: int = number(1, least=1, most=65536)  # pieces of a batch per update


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices: data x fsdp x tensor; the batch is split over the first two."""

    data: int = number(-1, least=-1, most=2**20)  # copies of the model; -1: as many as fit
    fsdp: int = number(1, least=1, most=2**20)  # devices that share one copy, sharded
    tensor: int = number(1, least=1, most=256)  # devices that share each matrix product
    shard_optimizer: bool = False  # moments and update split over data too (ZeRO-1)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Loop: seed, memory, logs, checkpoints."""

    seed: int = number(0, least=0, most=_UINT32)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of matrix products
    # attention core: auto takes the kernel on TPUs, cuDNN on GPUs in bfloat16, else XLA
    attention: Literal["auto", "xla", "fused", "cudnn"] = "auto"
    # recomputed in the backward pass: nothing, all but matrix products, everything
    remat: Literal["none", "dots", "full"] = "none"
    scan_blocks: bool = False  # ZeroSeg: blocks as one compiled loop, see models/layers.py
    watchdog_seconds: int = number(1800, least=0, most=_INT32)  # without a step: stacks; 0: none
    log_every_steps: int = number(50, least=1, most=_INT32)
    checkpoint_every_steps: int = number(500, least=1, most=_INT32)
    keep_checkpoints: int = number(2, least=1, most=10**6)
    pictures_every_steps: int = number(0, least=0, most=_INT32)  # TensorBoard images; 0: none


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    name: str = "zeroseg"
    objective: Literal["zeroseg", "clip_zss"] = "zeroseg"
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    clip_zss: ClipZssConfig = ClipZssConfig()
    teacher: TeacherConfig = TeacherConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    mesh: MeshConfig = MeshConfig()
    run: RunConfig = RunConfig()
