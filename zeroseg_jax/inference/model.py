"""Loading of models: a student from a run or an export, or the read-out of a frozen CLIP.

The only reader of manifest.json and of an export's config.json outside training. A loaded model
brings its teacher, its pixel normalisation and the preset that people's images are segmented with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zeroseg_jax.config import Config
from zeroseg_jax.data.files import read_json
from zeroseg_jax.inference.presets import Preset, get_preset
from zeroseg_jax.inference.scoring import ClassVectors, pack_classes
from zeroseg_jax.models.clip_zss.student import cell_px
from zeroseg_jax.models.sizes import SIZES
from zeroseg_jax.teacher import Teacher
from zeroseg_jax.teacher import load as load_teacher
from zeroseg_jax.teacher.checkpoints.config import WEIGHTS
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes
from zeroseg_jax.teacher.load import SHIPPED as SHIPPED_CLIP
from zeroseg_jax.teacher.readouts import READOUTS
from zeroseg_jax.training.checkpoint import load_params

SHIPPED_STUDENT = Path(__file__).parent.parent / "assets" / "student"
TEACHER_FOLDER = "teacher"  # of an export that brings its CLIP
# Read-out of a CLIP where none is given: the best published one of its family that is built in.
DEFAULT_READOUTS = {"clip": "naclip", "siglip": "maskclip"}
_MAX_LOGIT_SCALE = 100.0
_RECORDS = ("config.json", "manifest.json")  # of an export, of a run
_STUDENT_FORMAT = "zeroseg_jax.student"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and the teacher whose class names it understands.

    Attributes:
      kind: "zeroseg", "clip_zss" or "readout" (a frozen CLIP).
      params: parameters of the student, or of the CLIP's vision tower.
      teacher: the CLIP.
      checkpoint: name for reports, "DIRECTORY at step N".
      config: settings of the student's run; None for a read-out.
      readout: key of READOUTS for a read-out, else "".
      facts: training facts for the model card, see read_facts.
    """

    kind: Literal["zeroseg", "clip_zss", "readout"]
    params: Any
    teacher: Teacher
    checkpoint: str
    config: Config | None = None
    readout: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def image_px(self) -> int:
        """Side of a square window in pixels: the training side, or the CLIP's."""
        if self.config is not None:
            return self.config.model.image_px
        # The Playground's CLIP was trained on 48 px; its students see scenes at twice that.
        return max(self.teacher.image_px, SIZES["playground"]["image_px"])

    @property
    def patch_px(self) -> int:
        """Number that sides of windows are multiples of, in pixels."""
        if self.config is None:
            return self.teacher.patch_px
        if self.kind == "clip_zss":
            return cell_px(self.config.model, self.config.clip_zss.student)
        return self.config.model.encoder.patch_px

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of RGB in [0, 1] that the weights were trained with."""
        source = self.teacher if self.config is None else self.config.data
        return tuple(source.mean), tuple(source.std)

    @property
    def logit_scale(self) -> float:
        """Factor of cosines, at most 100."""
        own = self.teacher.logit_scale
        if self.kind == "clip_zss" and self.config is not None:
            own = self.config.clip_zss.loss.seen_scale
        return min(own, _MAX_LOGIT_SCALE)

    def get_preset(self, overrides: dict[str, str] | None = None) -> Preset:
        """Return the preset of Predictor, page and export, with single fields overridden.

        Raises:
          ValueError: see presets.get_preset.
        """
        own: dict[str, str] = {}
        if self.kind == "zeroseg":
            name, benchmark = "zeroseg", "playground/full"
        elif self.config is not None:
            name, benchmark = "zss", "playground/full"
            own["prompts"] = self.config.clip_zss.labels.prompts
        else:
            drawn = self.teacher.directory == SHIPPED_CLIP
            name, benchmark = "frozen", "playground/full" if drawn else "*"
        return get_preset(name, benchmark, {**own, **(overrides or {})})


def load(directory: str | Path = "playground", *, teacher: str = "", readout: str = "") -> Model:
    """Load a model.

    Args:
      directory: work directory of a run, exported student, directory of a CLIP, or "playground"
        for the student that ships.
      teacher: directory of a student's CLIP; "" for the one inside the export or the run's own.
      readout: key of READOUTS for a CLIP; "" for its family's default.

    Raises:
      ValueError: the directory holds no model, or the teacher is not the student's.
    """
    path = SHIPPED_STUDENT if str(directory) == "playground" else Path(directory)
    if is_clip(path):
        if teacher:
            raise ValueError(f"--teacher: {directory} is a CLIP itself; leave --teacher out.")
        return load_readout(path, readout)
    if readout:
        raise ValueError(f"--readout: {directory} is not the directory of a CLIP; leave it out.")
    params, config, step = load_params(path)
    clip = load_teacher(find_teacher(path, teacher) or config.teacher.directory)
    facts = read_facts(path)
    learned_from = facts["teacher"]
    if learned_from and learned_from != clip.digest:
        raise ValueError(
            f"--teacher: {clip.directory} is not the CLIP that {path} learned from (digest "
            f"{clip.digest[:12]}, not {learned_from[:12]}); give the right directory."
        )
    kind: Literal["zeroseg", "clip_zss"] = (
        "clip_zss" if config.objective == "clip_zss" else "zeroseg"
    )
    return Model(kind, params, clip, f"{directory} at step {step}", config, facts=facts)


def load_readout(teacher: Teacher | str | Path, readout: str = "") -> Model:
    """Load a dense read-out of a frozen CLIP.

    Args:
      teacher: the CLIP, its directory, or "playground".
      readout: key of READOUTS; "" for the family's default.

    Raises:
      ValueError: an unknown read-out, or no CLIP in the directory.
    """
    if readout and readout not in READOUTS:
        raise ValueError(f"--readout: {readout!r} is not one of {', '.join(READOUTS)}.")
    clip = teacher if isinstance(teacher, Teacher) else load_teacher(teacher)
    readout = readout or DEFAULT_READOUTS[clip.config.family]
    name = f"{readout} of {clip.directory}"
    return Model("readout", clip.vision_params, clip, name, readout=readout)


def embed_class_names(
    teacher: Teacher, class_names: Sequence[Sequence[str]], preset: Preset
) -> ClassVectors:
    """Embed the class names of a benchmark, the preset's background names last.

    Args:
      teacher: the CLIP.
      class_names: names of each class.
      preset: prompts, `names` rule and background names.
    """
    classes = [list(names) for names in class_names]
    background = [[name] for name in preset.background_words]
    found = embed_classes(teacher, classes + background, preset.prompts, cache_directory())
    rows = [found.classes[i : i + 1] for i in range(len(found.classes))]
    if preset.names == "best":
        rows = [found.names[found.class_ids == i] for i in range(len(rows))]
    return pack_classes(rows, len(background))


def find_teacher(directory: str | Path, teacher: str = "") -> str:
    """Return the directory of an export's teacher: as given, inside the export, or "" (its own)."""
    beside = Path(directory) / TEACHER_FOLDER
    return teacher or (str(beside) if beside.is_dir() else "")


def read_facts(directory: str | Path) -> dict[str, Any]:
    """Read the training facts that a run or an export records beside its weights.

    Args:
      directory: work directory or exported student.

    Returns:
      {"teacher": digest or None, "steps", "overrides", "scores": [...]}.

    Raises:
      ValueError: a record that is not JSON.
    """
    root = Path(directory)
    record: dict[str, Any] = {}
    for name in _RECORDS:
        if (root / name).is_file():
            content = read_json(root / name)
            record = content.get("metadata", content)
            break
    # Local paths say nothing on another machine and may be private.
    private = ("data.bank", "data.directory")
    overrides = {k: v for k, v in record.get("overrides", {}).items() if k not in private}
    scores = record.get("scores", [])
    if not scores:
        scores = [_read_score(path) for path in sorted(root.glob("**/report.json"))]
    return {
        "teacher": record.get("teacher"),
        "steps": record.get("steps"),
        "overrides": overrides,
        "scores": [score for score in scores if score],
    }


def is_clip(directory: str | Path) -> bool:
    """Return True for a directory in a CLIP's layout, whose config is not a student's."""
    path = Path(directory)
    if (path / "manifest.json").is_file():
        return False
    for name in WEIGHTS:
        if (path / name).is_file():
            return not str(read_json(path / name).get("format", "")).startswith(_STUDENT_FORMAT)
    return False


def _read_score(path: Path) -> dict[str, Any] | None:
    content = read_json(path)
    if not {"benchmark", "miou", "images", "preset", "checkpoint"} <= set(content):
        return None
    preset = content["preset"]
    dilations = preset.get("pamr_dilations")
    return {
        "benchmark": content["benchmark"],
        "miou": content["miou"],
        "images": content["images"],
        "protocol": f"preset {preset['name']}, prompts {preset['prompts']}, threshold "
        f"{preset['threshold']}, PAMR {'on' if dilations else 'off'}",
        # The directory is local; the step is not.
        "checkpoint": f"step {content['checkpoint'].rpartition(' at step ')[2]}",
    }
