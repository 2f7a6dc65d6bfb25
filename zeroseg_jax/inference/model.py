"""Loading of models by name: a student from a run or an export, or a frozen CLIP's read-out.

A loaded model brings its teacher, its pixel normalisation and the preset that people's images are
segmented with.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

from zeroseg_jax.config import Config
from zeroseg_jax.data.benchmarks.splits import get_split
from zeroseg_jax.inference.model_files import (
    AFFINITY_FOLDER,
    TEACHER_FOLDER,
    find_teacher,
    is_clip,
    is_readout_export,
    read_facts,
    read_readout,
)
from zeroseg_jax.inference.presets import Preset, check_scale, get_preset
from zeroseg_jax.models.clip_zss.student import cell_px
from zeroseg_jax.models.sizes import SIZES
from zeroseg_jax.models.zeroseg.weight_blend import blend_with_teacher
from zeroseg_jax.teacher import model_names
from zeroseg_jax.teacher.aliases import DEFAULT
from zeroseg_jax.teacher.checkpoints.config import read_config
from zeroseg_jax.teacher.checkpoints.tensors import weight_files
from zeroseg_jax.teacher.load import SHIPPED as SHIPPED_CLIP
from zeroseg_jax.teacher.load import Teacher, load_teacher
from zeroseg_jax.teacher.model_names import Located
from zeroseg_jax.teacher.readouts import check_readout
from zeroseg_jax.teacher.self_calibration import PUBLISHED_DEPTHS
from zeroseg_jax.teacher.towers import FAMILIES, ClipConfig
from zeroseg_jax.training.checkpoint import load_params

SHIPPED_STUDENT = Path(__file__).parent.parent / "assets" / "student"
# Read-out of each family where none is given: the best published one that is built in. SC-CLIP
# names blocks by number, so at a depth that it was not published for, a CLIP gets NACLIP.
DEFAULT_READOUTS = {
    "clip": "scclip", "metaclip_2": "scclip", "siglip": "maskclip", "tipsv2": "maskclip",
}  # fmt: skip
_OTHER_DEPTHS = {"scclip": "naclip"}
# Read-out of "A+B": affinities of A steer the values of B.
_PAIR_READOUT = "proxy"
DRAWN_ONLY = "this model knows only the drawn shapes of the Playground"


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
      facts: training facts for the model card, see model_files.read_facts.
      located: name and folder of a frozen CLIP; None for a student.
      affinity: vision tower that lends its affinities to read-out "proxy", else None.
    """

    kind: Literal["zeroseg", "clip_zss", "readout"]
    params: Any
    teacher: Teacher
    checkpoint: str
    config: Config | None = None
    readout: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    located: Located | None = None
    affinity: Teacher | None = None

    @property
    def knows_photographs(self) -> bool:
        """False for the Playground's CLIP and its students, which know drawn shapes alone."""
        return self.teacher.config != _read_drawn_config()

    def describe(self, preset: Preset) -> dict[str, Any]:
        """Return what people should know of a model: name, revision, licence, protocol.

        Args:
          preset: preset that images are segmented with.

        Returns:
          {"name", "revision", "megabytes", "licence", "protocol", "note"}. The revision is
          "hf:owner/name@COMMIT"; it and the licence are "" where unknown. The note is a warning or
          "".
        """
        parts = [part for part in (self.located, self.located and self.located.affinity) if part]
        towers = [part for part in (self.teacher, self.affinity) if part is not None]
        licences = {part.alias.licence for part in parts if part.alias}
        sizes = [path.stat().st_size for tower in towers for path in weight_files(tower.directory)]
        return {
            "name": " of ".join(map(shorten_name, self.checkpoint.split(" of "))),
            "revision": " + ".join(part.pinned for part in parts if part.pinned),
            "megabytes": round(sum(sizes) / 1e6),
            "licence": " and ".join(sorted(licences)),
            "protocol": f"preset {preset.name}, prompts {preset.prompts}",
            "note": "" if self.knows_photographs else DRAWN_ONLY,
        }

    @property
    def image_px(self) -> int:
        """Side of a square window in pixels: the training side, or the CLIP's."""
        if self.config is not None:
            return self.config.model.image_px
        # The Playground's CLIP was trained on 48 px; its students see scenes at twice that.
        side = max(self.teacher.image_px, SIZES["playground"]["image_px"])
        return side // self.patch_px * self.patch_px

    @property
    def patch_px(self) -> int:
        """Number that sides of windows are multiples of, in pixels: one patch of the output."""
        if self.config is None:
            return (self.affinity or self.teacher).patch_px
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
        """Factor of cosines, at most max_scale."""
        own = self.teacher.logit_scale
        if self.kind == "clip_zss" and self.config is not None:
            own = self.config.clip_zss.loss.seen_scale
        return min(own, self.max_scale)

    @property
    def seen_names(self) -> frozenset[str]:
        """Class names that had labels in training: those of a CLIP-ZSS student's split."""
        if self.kind != "clip_zss" or self.config is None:
            return frozenset()
        split = get_split(self.config.clip_zss.labels.split)
        return frozenset(name for names in split.seen_words for name in names)

    @property
    def max_scale(self) -> float:
        """Largest factor of cosines of the teacher's family."""
        return FAMILIES[self.teacher.config.family].max_scale

    def get_preset(self, overrides: dict[str, str] | None = None) -> Preset:
        """Return the preset of Predictor, page and export, with single fields overridden.

        Raises:
          ValueError: see presets.get_preset and presets.check_scale.
        """
        own: dict[str, str] = {}
        if self.kind == "zeroseg":
            name, benchmark = "zeroseg", "playground/full"
        elif self.config is not None:
            name, benchmark = "zss", "playground/full"
            own["prompts"] = self.config.clip_zss.labels.prompts
        else:
            name, benchmark = "frozen", "*" if self.knows_photographs else "playground/full"
        preset = get_preset(name, benchmark, {**own, **(overrides or {})})
        check_scale(preset, self.max_scale)
        return preset


def load(name: str | Path = DEFAULT, *, teacher: str | Path = "", readout: str = "") -> Model:
    """Load a model.

    Args:
      name: work directory of a run, exported model, directory of a CLIP, "playground" for the
        student that ships, or a name of teacher.model_names: an alias, "hf:owner/name@revision",
        "A+B". A named model is fetched once.
      teacher: directory or name of a student's CLIP; "" for the one inside the export or the run's
        own.
      readout: key of READOUTS for a CLIP; "" for choose_readout's.

    Raises:
      ValueError: no such model, or the teacher is not the student's.
    """
    located = locate(name)
    path = located.directory
    if is_clip(path):
        if teacher:
            raise ValueError(f"--teacher: {name} is a CLIP itself; leave --teacher out.")
        return _load_located(located, readout)
    if readout:
        raise ValueError(f"--readout: {name} is not a CLIP; leave it out.")
    if is_readout_export(path):
        return _load_readout_export(path, str(teacher))
    params, config, step = load_params(path)
    clip = load_teacher(
        find_teacher(path, str(teacher)) or config.teacher.directory,
        field="--teacher" if teacher else "teacher.directory",
    )
    facts = read_facts(path)
    _check_teacher(clip, facts["teacher"], path)
    return from_run(params, config, clip, f"{name} at step {step}", facts)


def from_run(
    params: Any, config: Config, clip: Teacher, checkpoint: str, facts: dict[str, Any] | None = None
) -> Model:
    """Return the model of a trained student: what is done to its weights after training is done.

    Args:
      params: parameters of the student, as training left them.
      config: settings of its run.
      clip: its teacher.
      checkpoint, facts: see Model.
    """
    kind: Literal["zeroseg", "clip_zss"] = "clip_zss"
    if config.objective != "clip_zss":
        kind = "zeroseg"
        params, own = blend_with_teacher(params, clip.vision_params, config.model)
        config = dataclasses.replace(config, model=own)
    return Model(kind, params, clip, checkpoint, config, facts=facts or {})


def locate(name: str | Path) -> Located:
    """Return the directory of a model of `load`; a name of the Hub is fetched once.

    Raises:
      ValueError: no such model.
    """
    if str(name) == "playground":
        return Located(SHIPPED_STUDENT, "playground")
    return model_names.resolve(name)


def load_towers(name: str | Path = "playground") -> tuple[Teacher, Teacher | None]:
    """Load the CLIP of a name, and the affinity tower of "A+B".

    Args:
      name: as in load, of a CLIP; "playground" for the CLIP that ships.

    Raises:
      ValueError: no such model, or no CLIP in the directory.
    """
    if str(name) == "playground":
        return load_teacher(name), None
    return _load_towers(model_names.resolve(name))


def load_readout(
    teacher: Teacher | str | Path, readout: str = "", *, affinity: Teacher | None = None
) -> Model:
    """Load a dense read-out of a frozen CLIP.

    Args:
      teacher: the CLIP, its directory, or "playground".
      readout: key of READOUTS; "" for choose_readout's, with an affinity tower "proxy".
      affinity: vision tower for read-out "proxy".

    Raises:
      ValueError: an unknown read-out, one that does not fit the towers, or no CLIP in the
        directory.
    """
    clip = teacher if isinstance(teacher, Teacher) else load_teacher(teacher)
    if clip.config.text is None:
        raise ValueError(
            f"--model: {clip.name} has no text tower; name it before a CLIP for its affinities, "
            f"as in {clip.name}+clip-b16."
        )
    readout = readout or (_PAIR_READOUT if affinity else choose_readout(clip.config))
    check_readout(readout, affinity is not None)
    name = f"{readout} of {clip.directory}"
    return Model(
        "readout", clip.vision_params, clip, name, readout=readout,
        located=Located(clip.directory, clip.name, clip.pinned), affinity=affinity,
    )  # fmt: skip


def choose_readout(config: ClipConfig) -> str:
    """Return the default read-out of a CLIP without an affinity tower."""
    readout = DEFAULT_READOUTS[config.family]
    return (
        readout if config.vision.depth in PUBLISHED_DEPTHS else _OTHER_DEPTHS.get(readout, readout)
    )


def _load_located(located: Located, readout: str) -> Model:
    """Load a frozen CLIP, and the affinity tower of "A+B", under its own read-out or another."""
    clip, affinity = _load_towers(located)
    model = load_readout(clip, readout, affinity=affinity)
    checkpoint = f"{model.readout} of {located.name}"
    return dataclasses.replace(model, checkpoint=checkpoint, located=located)


def _load_towers(located: Located) -> tuple[Teacher, Teacher | None]:
    if located.affinity is None:
        return load_teacher(located), None
    clip = dataclasses.replace(located, name=located.name.partition("+")[2], affinity=None)
    return load_teacher(clip), load_teacher(located.affinity)


def _load_readout_export(directory: Path, teacher: str) -> Model:
    """Load what model_files.write_readout wrote: the CLIP inside it, or fetched by its name."""
    record = read_readout(directory)
    towers: dict[str, Located] = {}
    for role, folder in (("teacher", TEACHER_FOLDER), ("affinity", AFFINITY_FOLDER)):
        part = record.get(role)
        if part is None:
            continue
        given = teacher if role == "teacher" else ""
        inside = directory / folder
        if given or (not inside.is_dir() and part["name"].startswith("hf:")):
            found = model_names.resolve(
                given or part["name"], field="--teacher" if given else "--model"
            )
        elif inside.is_dir():
            alias = model_names.find_alias(part["name"])
            found = Located(inside, part["shown"], part["name"], alias)
        else:
            raise ValueError(
                f"{directory}: the model {part['shown']} is not inside; export again with "
                "--include_teacher, or give the directory of a CLIP as --teacher."
            )
        towers[role] = dataclasses.replace(found, name=part["shown"])
    located = dataclasses.replace(towers["teacher"], affinity=towers.get("affinity"))
    model = _load_located(located, record["readout"])
    for role, tower in (("teacher", model.teacher), ("affinity", model.affinity)):
        if tower is not None:
            _check_teacher(tower, record[role]["digest"], directory)
    return model


def _check_teacher(clip: Teacher, wanted: str | None, path: Path) -> None:
    if wanted and wanted != clip.digest:
        raise ValueError(
            f"--teacher: {clip.directory} is not the CLIP of {path} (digest "
            f"{clip.digest[:12]}, not {wanted[:12]}); give the right directory."
        )


def shorten_name(name: str) -> str:
    """Return the last part of a local path, which may be private; a name of the Hub unchanged."""
    return name if model_names.is_name(name) else Path(name).name


@functools.cache
def _read_drawn_config() -> Any:
    return read_config(SHIPPED_CLIP)
