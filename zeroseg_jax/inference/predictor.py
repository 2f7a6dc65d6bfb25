"""The Python API: load once, segment any picture with any words.

    from zeroseg_jax import Predictor
    result = Predictor.from_pretrained("runs/photos").segment("photo.jpg", ["cat", "grass"])
    result.save("out")

A picture is cut first and named afterwards, so the cut is kept: other words on the same picture
cost almost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroseg_jax.data.transforms import to_image
from zeroseg_jax.inference import model as build
from zeroseg_jax.inference import model_files as pretrained
from zeroseg_jax.inference import painting
from zeroseg_jax.inference.class_names import check_classes, to_classes
from zeroseg_jax.inference.cutting import Cut, Cutter, Kept
from zeroseg_jax.inference.presets import WHOLE_PICTURE, Preset, get_preset
from zeroseg_jax.inference.segmentation import BACKGROUND, Segmentation, index_dtype
from zeroseg_jax.teacher.class_embeddings import cache_directory, embed_classes

Picture = str | Path | Image.Image | np.ndarray
_PRESET_OF = "playground/full"  # the student's own size, its captions' prompts
_KEPT_WORDS = 4096


def build_preset(settings: dict[str, str] | None = None) -> Preset:
    """Return the preset a Predictor works by; on square pictures it is evaluation's zeroseg.

    Raises:
      ValueError: see evaluation.presets.get_preset.
    """
    whole = {"window_px": str(WHOLE_PICTURE)}
    return get_preset("zeroseg", _PRESET_OF, {**whole, **(settings or {})})


class Predictor:
    """A trained student that answers with a Segmentation; make it with `from_pretrained`.

    It may be used from several threads at once.

    Args:
      student: with its teacher.
      preset: of evaluation; what `settings` of from_pretrained change.
      facts: what is known of the student, for the model card.
      keep_words: also keep embedded words in the user's cache folder, for the next process.
    """

    def __init__(
        self,
        student: build.TrainedStudent,
        preset: Preset,
        facts: dict[str, Any],
        *,
        keep_words: bool = True,
    ):
        self.checkpoint = student.checkpoint
        self.preset = preset
        self._student, self._facts = student, facts
        self._words_cache = cache_directory() if keep_words else None
        self._cutter, self._rows = Cutter(student, preset), Kept(_KEPT_WORDS)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path = "playground",
        *,
        teacher: str | Path = "",
        settings: dict[str, str] | None = None,
        keep_words: bool = True,
    ) -> Predictor:
        """Load a model.

        Args:
          directory: what save_pretrained or `zeroseg export` wrote, a work directory of a
            training run, or "playground" for the student that ships.
          teacher: where the CLIP lies whose words it understands; "" for beside the model, or
            where the run found it.
          settings: fields of evaluation's preset as text, for example {"stride_px": "28"}.
          keep_words: see Predictor.

        Raises:
          ValueError: no model there, another teacher than the one it learned from, or a
            setting that cannot be.
        """
        preset = build_preset(settings)
        if preset.threshold:
            raise ValueError("--set: threshold is for evaluation; give background=THRESHOLD here.")
        student = build.load_student(directory, pretrained.find_teacher(directory, str(teacher)))
        place = build.SHIPPED_STUDENT if str(directory) == "playground" else directory
        return cls(student, preset, pretrained.read_facts(place), keep_words=keep_words)

    def __repr__(self) -> str:
        model = self._student.config.model
        return (
            f"Predictor of {self.checkpoint}: ViT of width {model.encoder.width} at "
            f"{self._cutter.window_px} px, teacher {self._student.teacher.directory.name}"
        )

    def segment(
        self,
        image: Picture | Sequence[Picture],
        words: str | Sequence[str | Sequence[str]],
        *,
        background: float | str | Sequence[str] | None = None,
        detail: int = 1,
        refine: bool = True,
        source: str = "",
    ) -> Segmentation | list[Segmentation]:
        """Cut a picture into regions and give each pixel one of the words.

        Args:
          image: a path, a Pillow image or an array, see data.transforms.to_image, of any size;
            or a list of them.
          words: ["cat", "grass"]; synonyms of one class as ["ring", "hoop"] inside; or text as
            on the command line, "cat; ring, hoop".
          background: a threshold in [0, 1] under which a pixel is background; or words whose
            pixels are background; None: every pixel gets one of the words.
          detail: how many times the training resolution the picture is looked at; more windows
            find smaller things, and take that number squared as long.
          refine: let the regions follow the picture's edges.
          source: what to call the picture in results; "": its path, if it came as one.

        Returns:
          A Segmentation at the picture's own size; for a list, a list in its order.

        Raises:
          ValueError: a picture, a word or an option that cannot be; one sentence.
        """
        classes = to_classes(words)
        threshold, behind = self._read_background(background, classes)
        several = isinstance(image, list | tuple)
        pictures = [to_image(picture) for picture in (image if several else [image])]
        cuts = self._cutter.cut(pictures, detail=detail)
        results = []
        for item, picture, cut in zip(image if several else [image], pictures, cuts, strict=True):
            name = source or (str(item) if isinstance(item, str | Path) else "")
            named = self.name(cut, classes, behind, picture, refine=refine, source=name)
            results.append(named.with_background(threshold))
        return results if several else results[0]

    def cut(self, picture: np.ndarray, *, detail: int = 1) -> Cut:
        """Cut a uint8 (H, W, 3) picture into segments without names."""
        return self._cutter.cut([picture], detail=detail)[0]

    def forget(self) -> None:
        """Drop the pictures whose cuts are kept."""
        self._cutter.forget()

    def name(
        self,
        cut: Cut,
        classes: list[list[str]],
        behind: list[list[str]],
        picture: np.ndarray,
        *,
        refine: bool = True,
        source: str = "",
    ) -> Segmentation:
        """Give the segments of a cut words.

        Args:
          cut: of the picture.
          classes: names of each class.
          behind: classes whose pixels are background.
          picture: uint8 (H, W, 3), goes into the result.
          refine: see segment.
          source: goes into the result.

        Returns:
          A Segmentation; "background" comes first if there is something behind.
        """
        text = self._embed(classes + behind)
        table = self._cutter.score(cut, text, len(behind))
        chosen = painting.choose_words(table)
        scores, ids = painting.paint_windows(
            table[..., chosen], cut.owners, cut.corners, cut.laid_px
        )
        if refine and self.preset.pamr_dilations:
            scores = painting.follow_edges(scores, cut.guide, self.preset)
        height, width = cut.size
        labels, best = painting.label_pixels(scores, height, width)
        names = tuple(names[0] for names in classes)
        words = (BACKGROUND, *names) if behind else names
        enlarged = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
        mask = chosen.astype(index_dtype(len(words)))[labels]
        return Segmentation(
            picture, mask, best, np.asarray(enlarged), words, self.checkpoint, source
        )

    def save_pretrained(
        self, directory: str | Path, *, include_teacher: bool = True, dtype: str = "float32"
    ) -> Path:
        """Write config.json, model.safetensors, a model card and the teacher.

        Args:
          directory: made if missing.
          include_teacher: copy the CLIP too, so that the directory is all one needs; else its
            digest is kept, and from_pretrained(teacher=...) says where it lies.
          dtype: "float32" or "float16", of the stored tensors.

        Returns:
          The directory.
        """
        student = self._student
        shipped = student.config.teacher.directory == "playground"
        return pretrained.write_pretrained(
            student.params,
            student.config,
            directory,
            {**self._facts, "teacher": student.teacher.digest},
            step=int(self.checkpoint.rpartition(" at step ")[2]),
            teacher="playground" if shipped else student.teacher.directory,
            include_teacher=include_teacher,
            dtype=dtype,
        )

    def _read_background(
        self, background: float | str | Sequence[str] | None, classes: list[list[str]]
    ) -> tuple[float, list[list[str]]]:
        words = [[word] for word in self.preset.background_words]
        if background is None or isinstance(background, bool):
            threshold = 0.0
        elif isinstance(background, int | float):
            threshold = float(background)
        else:
            threshold, words = 0.0, to_classes(background, "background")
        if not 0 <= threshold <= 1:
            raise ValueError(f"background: {background} is outside [0, 1].")
        if words:
            check_classes(classes + words, "words and background")
        return threshold, words

    def _embed(self, classes: list[list[str]]) -> np.ndarray:
        keys = [tuple(names) for names in classes]
        rows = {key: self._rows.get(key) for key in keys}
        missing = [list(key) for key, row in rows.items() if row is None]
        if missing:
            fresh = embed_classes(
                self._student.teacher, missing, self.preset.prompts, self._words_cache
            )
            for names, row in zip(missing, fresh.classes, strict=True):
                rows[tuple(names)] = row
                self._rows.put(tuple(names), row)
        return np.stack([rows[key] for key in keys])
