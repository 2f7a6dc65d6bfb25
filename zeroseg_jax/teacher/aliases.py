"""Short names of public models: repository, pinned revision, checksum, licence, published scores.

A revision of 40 hex digits is a commit; "main" means that no commit could be recorded yet, and
`zeroseg models` prints "unpinned". Scores are mIoU in percent as printed by the source named beside
them; none was measured by this project.

Sources: model cards and configuration files of the repositories; public code that pins them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
# ViT-B/16 of OpenAI, tables of the SC-CLIP and OV-Stitcher papers.
_SCCLIP = {
    "voc21": 64.6, "voc20": 84.3, "context60": 36.8, "context59": 40.1, "coco_object": 37.7,
    "coco_stuff171": 26.6, "cityscapes19": 41.0, "ade150": 20.1,
}  # fmt: skip
# ProxyCLIP's README: DINO ViT-B/8 with OpenAI's ViT-B/16.
_PROXY_DINO = {
    "voc21": 61.3, "voc20": 80.3, "context60": 35.3, "context59": 39.1, "coco_object": 37.5,
    "coco_stuff171": 26.5, "cityscapes19": 38.1, "ade150": 20.2,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Alias:
    """One public model.

    Attributes:
      repository: "owner/name" on the Hugging Face Hub.
      revision: commit of 40 hex digits, or "main" where none is recorded.
      megabytes: size of what is fetched, rounded.
      licence: as the model card states it, with a remark where it is not open.
      readout: dense read-out that a Predictor takes by default, for `zeroseg models`; "" for a
        vision tower that only lends its affinities.
      preset: evaluation preset of that read-out.
      sha256: checksum of a weight file by name, where one is recorded.
      published: mIoU by benchmark under that preset, printed by others.
      note: one remark for `zeroseg models`.
    """

    repository: str
    revision: str
    megabytes: int
    licence: str
    readout: str = "scclip"
    preset: str = "scclip"
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""


DEFAULT = "clip-b16"
ALIASES: dict[str, Alias] = {
    "clip-b16": Alias(
        "timm/vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        599, "Apache-2.0",
        sha256={
            _OPEN_CLIP_WEIGHTS: "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f"
        },
        published=_SCCLIP, note="OpenAI's ViT-B/16",
    ),
    "clip-b32": Alias(
        "timm/vit_base_patch32_clip_224.openai", "main", 605, "Apache-2.0",
        sha256={
            _OPEN_CLIP_WEIGHTS: "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"
        },
        note="OpenAI's ViT-B/32; patches of 32 px are coarse",
    ),
    "clip-l14": Alias(
        "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41",
        1710, "undeclared on the Hub, MIT upstream", note="OpenAI's ViT-L/14",
    ),
    "laion-b16": Alias(
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "main", 599, "MIT",
        note="OpenCLIP's ViT-B/16 on LAION-2B",
    ),
    "siglip2-b16": Alias(
        "google/siglip2-base-patch16-224", "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        1500, "Apache-2.0", readout="maskclip", preset="tips", note="SigLIP 2 of fixed size",
    ),
    "tipsv2-b14": Alias(
        "google/tipsv2-b14", "main", 784, "Apache-2.0", readout="maskclip", preset="tips",
        published={"ade150": 17.4}, note="TIPSv2 ViT-B/14",
    ),
    "tipsv2-l14": Alias(
        "google/tipsv2-l14", "main", 1900, "Apache-2.0", readout="maskclip", preset="tips",
        published={"ade150": 24.7}, note="TIPSv2 ViT-L/14",
    ),
    "metaclip2-b16": Alias(
        "facebook/metaclip-2-worldwide-b16", "main", 1500, "CC-BY-NC-4.0 (non-commercial)",
        note="MetaCLIP 2, many languages",
    ),
    "dinov2": Alias(
        "facebook/dinov2-with-registers-base", "a1d738ccfa7ae170945f210395d99dde8adb1805",
        346, "Apache-2.0", readout="", preset="proxyclip_dinov2",
        note="affinities only: dinov2+clip-b16",
    ),
    "dino-b8": Alias(
        "facebook/dino-vitb8", "main", 343, "Apache-2.0", readout="", preset="proxyclip",
        published=_PROXY_DINO, note="affinities only: dino-b8+clip-b16, ProxyCLIP's own pair",
    ),
}  # fmt: skip

# Repositories whose weights are only a pickle at their usual revision, and the same weights as
# safetensors.
TWINS = {"openai/clip-vit-base-patch16": "clip-b16", "openai/clip-vit-base-patch32": "clip-b32"}
