"""Rules that relate two or more settings, each as one sentence that names the field to change."""

from __future__ import annotations

from collections.abc import Iterator

from zeroseg_jax.config.fields import Config

# Attention over more patches than a square of 256 fits no device: its scores are 16 GB a head.
_MOST_PATCHES = 256**2
# Finer grids shrink the whole image by 6 or more, which Pillow does in two stages.
LARGEST_DEVICE_GRID = 5


def list_misfits(config: Config) -> Iterator[str]:
    """Yield a sentence for every rule that a config breaks; its fields keep their own limits."""
    yield from _relate_model(config)
    yield from _relate_views_and_losses(config)
    yield from _relate_run(config)
    if config.objective == "clip_zss":
        yield from _relate_clip_zss(config)


def _relate_model(config: Config) -> Iterator[str]:
    model, patch = config.model, config.model.encoder.patch_px
    patches = (model.image_px // patch) ** 2
    if model.image_px % patch:
        yield (
            f"model.image_px: {model.image_px} is not a multiple of model.encoder.patch_px "
            f"{patch}; change one of them."
        )
    elif patches > _MOST_PATCHES:
        yield (
            f"model.image_px: {model.image_px} holds {patches} patches of {patch} px, more than "
            f"{_MOST_PATCHES}; lower it or raise model.encoder.patch_px."
        )
    elif int(patches * (1 - model.mask_ratio)) < 1:
        yield (
            f"model.mask_ratio: {model.mask_ratio} leaves no patch visible where model.image_px / "
            f"model.encoder.patch_px is {model.image_px // patch}; lower it."
        )
    for name, width, heads in (
        ("encoder", model.encoder.width, model.encoder.heads),
        ("decoder", model.decoder.width, model.decoder.heads),
        ("head", model.head.width, model.head.heads),
    ):
        if width % heads:
            yield (
                f"model.{name}.width: {width} is not a multiple of model.{name}.heads {heads}; "
                "change one of them."
            )
        elif heads % config.mesh.tensor:
            yield (
                f"mesh.tensor: {config.mesh.tensor} does not divide model.{name}.heads {heads}; "
                "use a divisor."
            )
    head = model.head
    if len(head.stage_depths) != len(head.segment_tokens) + 1:
        yield (
            f"model.head.stage_depths: {head.stage_depths} needs one entry more than "
            f"model.head.segment_tokens {head.segment_tokens}; add or remove entries."
        )


def _relate_views_and_losses(config: Config) -> Iterator[str]:
    grids, loss = config.teacher.grids, config.loss
    if grids[0] != 1:
        yield f"teacher.grids: {grids} does not begin with 1, the whole image; put 1 first."
    if len(set(grids)) != len(grids):
        yield f"teacher.grids: {grids} holds a grid twice; remove one."
    if config.teacher.cut == "device" and max(grids) > LARGEST_DEVICE_GRID:
        yield (
            f"teacher.cut: device takes grids up to {LARGEST_DEVICE_GRID}, and teacher.grids has "
            f"{max(grids)}; use host."
        )
    if config.objective != "zeroseg":
        return
    if len(grids) == 1 and loss.matching:
        yield f"teacher.grids: {grids} has no regions to match; add a grid or set loss.matching=0."
    for name in ("patch", "dense"):
        if getattr(loss, name) and config.model.head.grouping != "clustered":
            yield f"loss.{name}: needs model.head.grouping=clustered; set that or loss.{name}=0."
    if config.model.encoder.teacher_share and config.model.encoder.init != "teacher":
        yield (
            "model.encoder.teacher_share: needs model.encoder.init=teacher; set that or "
            "teacher_share=0."
        )
    if config.model.head.cluster_segments and config.model.head.grouping != "clustered":
        yield (
            "model.head.cluster_segments: needs model.head.grouping=clustered; set that or "
            "cluster_segments=0."
        )
    if loss.dense and config.data.features != "bank":
        yield "loss.dense: reads targets made by prepare; set data.features=bank or loss.dense=0."
    reads = bool(loss.dense) and config.teacher.readout == "proxy"
    yield from _relate_affinity(config, "teacher.readout=proxy", " with loss.dense above 0", reads)
    if config.model.head.shared_projection and config.model.head.region_readout:
        yield (
            "model.head.shared_projection: excludes model.head.region_readout; set one of them to "
            "False."
        )
    terms = (loss.reconstruction, loss.distillation, loss.matching)
    if not any((*terms, loss.cell, loss.inside, loss.patch, loss.dense)):
        yield "loss: every term has weight 0; give one a weight."


def _relate_affinity(config: Config, reader: str, when: str, reads: bool) -> Iterator[str]:
    """Relate the second tower to the setting that reads it, and to what else that needs."""
    affinity = config.teacher.affinity
    if reads and not affinity:
        yield f"teacher.affinity: empty; {reader} needs one, such as dinov2."
    if affinity and not reads:
        yield f"teacher.affinity: {affinity} is not read; set {reader}{when} or leave it empty."


def _relate_run(config: Config) -> Iterator[str]:
    data, optim = config.data, config.optim
    if data.source != "playground" and not data.directory:
        yield f"data.directory: empty; data.source={data.source} needs the path of its images."
    if data.source == "playground" and not data.images:
        yield "data.images: 0 means all, but data.source=playground has no end; give a number."
    if not optim.steps and not optim.epochs:
        yield "optim.steps: 0 with optim.epochs=0 trains nothing; set one of them."
    if not config.mesh.data:
        yield "mesh.data: 0 copies of the model train nothing; use -1 for all devices."


def _relate_clip_zss(config: Config) -> Iterator[str]:
    labels, student = config.clip_zss.labels, config.clip_zss.student
    reads = config.clip_zss.regions.readout == "proxy"
    yield from _relate_affinity(config, "clip_zss.regions.readout=proxy", "", reads)
    yield from _relate_augment(config)
    loss, side = config.clip_zss.loss, config.model.image_px
    if config.data.features != "bank":
        yield "data.features: CLIP-ZSS reads regions made by prepare; use bank and run prepare."
    cell = config.model.encoder.patch_px if student.encoder == "vit" else 4  # MiT's first stride
    for name, px in (("model.image_px", side), (f"the {student.encoder} student's cells of", cell)):
        if px % labels.stride_px:
            yield (
                f"clip_zss.labels.stride_px: {labels.stride_px} does not divide {name} {px} px; "
                "use a divisor."
            )
    for field in ("drop_path", "head_dropout"):
        if student.encoder == "vit" and getattr(student, field):
            yield (
                f"clip_zss.student.{field}: {getattr(student, field):g} is for SegFormer, and "
                "clip_zss.student.encoder is vit; set it to 0."
            )
    if student.encoder == "vit" and student.head_norm != "none":
        yield (
            f"clip_zss.student.head_norm: {student.head_norm} is for SegFormer, and "
            "clip_zss.student.encoder is vit; set it to none."
        )
    if student.encoder != "vit" and side % 32:
        yield f"model.image_px: {side} does not fit {student.encoder}; use a multiple of 32."
    if student.synthesizer_width % student.synthesizer_heads:
        yield (
            f"clip_zss.student.synthesizer_width: {student.synthesizer_width} is not a multiple of "
            f"clip_zss.student.synthesizer_heads {student.synthesizer_heads}; change one of them."
        )
    if loss.local_weight and not loss.latent:
        yield (
            f"clip_zss.loss.local_weight: {loss.local_weight:g} distils latent regions, and "
            "clip_zss.loss.latent=False removes them; change one of them."
        )
    if labels.split == "none" and (loss.prototype_weight or not loss.latent):
        yield (
            "clip_zss.labels.split: none has no seen classes; set "
            "clip_zss.loss.prototype_weight=0 and clip_zss.loss.latent=True."
        )
    if labels.split != "none" and config.data.source == "folder" and not labels.directory:
        yield (
            "clip_zss.labels.directory: empty; give the folder of index masks, or set "
            "clip_zss.labels.split=none."
        )
    begin = loss.self_training_begin
    if begin and labels.split == "none":
        yield (
            f"clip_zss.loss.self_training_begin: {begin:g} needs unseen classes, and "
            "clip_zss.labels.split=none has no classes; set it to 0."
        )
    if begin and not any((loss.pixel_weight, loss.focal_weight, loss.dice_weight)):
        yield (
            f"clip_zss.loss.self_training_begin: {begin:g} labels pixels, and the weights of the "
            "pixel, focal and dice terms are 0; set it to 0 or give one a weight."
        )
    terms = (loss.pixel_weight, loss.focal_weight, loss.dice_weight, loss.global_weight)
    if not any((*terms, loss.prototype_weight, loss.local_weight)):
        yield "clip_zss.loss: every term has weight 0; give one a weight."


def _relate_augment(config: Config) -> Iterator[str]:
    augment, grids = config.clip_zss.augment, config.teacher.grids
    least, most = augment.scales
    if least > most:
        yield f"clip_zss.augment.scales: {augment.scales} falls; put the smaller factor first."
    if augment.class_share < 1 and most <= 1:
        yield (
            f"clip_zss.augment.class_share: {augment.class_share:g} chooses among crops, and "
            f"clip_zss.augment.scales {augment.scales} cuts none; set it to 1 or raise the second "
            "scale above 1."
        )
    if (least, most) != (1, 1) and len(grids) > 1 and config.clip_zss.loss.global_weight:
        yield (
            f"clip_zss.augment.scales: {augment.scales} moves the cells that the views of "
            f"teacher.grids {grids} cover; set teacher.grids=(1,) or the scales to (1, 1)."
        )
