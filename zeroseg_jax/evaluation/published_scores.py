"""Published scores that a frozen model of the Hub should reproduce: model, read-out, benchmark.

mIoU in percent as printed by the source of each row. None was measured by this project.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from zeroseg_jax.teacher.aliases import ALIASES

_ORDER = (
    "voc21", "context60", "coco_object", "voc20", "context59", "coco_stuff171", "cityscapes19",
    "ade150",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One method with its scores.

    Attributes:
      title: name of the method.
      readout: key of teacher.readouts.READOUTS.
      model: name of the CLIP, "A+B" with an affinity tower.
      preset: protocol.
      source: publication that prints the scores.
      scores: mIoU by benchmark.
      overrides: preset fields of this row.
    """

    title: str
    readout: str
    model: str
    preset: str
    source: str
    scores: Mapping[str, float]
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _row(*scores: float) -> dict[str, float]:
    return dict(zip(_ORDER, scores, strict=True))


_B16 = "clip-b16"
# key -> row; keys are folder names.
ROWS: dict[str, PublishedRow] = {
    "sclip": PublishedRow(
        "SCLIP", "sclip", _B16, "sclip", "its repository",
        _row(59.63, 31.74, 33.52, 81.54, 34.46, 22.77, 32.34, 16.45),
    ),
    "clearclip": PublishedRow(
        "ClearCLIP", "clearclip", _B16, "clearclip", "DeCLIP's table",
        _row(51.8, 32.6, 33.0, 80.9, 35.9, 23.9, 30.0, 16.7),
    ),
    "naclip": PublishedRow(
        "NACLIP", "naclip", _B16, "naclip", "a later paper's table",
        _row(58.9, 32.2, 33.2, 79.7, 35.2, 23.3, 35.5, 17.4), {"pamr_dilations": ""},
    ),
    "naclip_pamr": PublishedRow(
        "NACLIP with PAMR", "naclip", _B16, "naclip", "its repository",
        _row(64.07, 34.99, 36.19, 83.03, 38.35, 25.69, 38.27, 19.05),
    ),
    "scclip": PublishedRow(
        "SC-CLIP", "scclip", _B16, "scclip", "OV-Stitcher's table", ALIASES[_B16].published
    ),
    "proxyclip": PublishedRow(
        "ProxyCLIP with DINO", "proxy", f"dino-b8+{_B16}", "proxyclip", "OV-Stitcher's table",
        ALIASES["dino-b8"].published,
    ),
    "maskclip_plain": PublishedRow(
        "MaskCLIP", "maskclip", _B16, "maskclip_plain", "its repository",
        {"voc20": 49.5, "context59": 21.7, "coco_stuff171": 12.5},
    ),
    "tipsv2_b14": PublishedRow(
        "TIPSv2 B/14", "maskclip", "tipsv2-b14", "tips", "its repository",
        ALIASES["tipsv2-b14"].published,
    ),
    "tipsv2_l14": PublishedRow(
        "TIPSv2 L/14", "maskclip", "tipsv2-l14", "tips", "its repository",
        ALIASES["tipsv2-l14"].published,
    ),
}  # fmt: skip
