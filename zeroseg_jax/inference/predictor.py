"""Predictor, the Python API: load a model once, segment any image with any class names.

    from zeroseg_jax import Predictor
    predictor = Predictor.from_pretrained("runs/photos")
    predictor("photo.jpg", ["cat", "grass"]).save("out")

An image is encoded before its classes are known, and the encoding is cached: other class names on
the same image cost almost nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from zeroseg_jax.data.transforms import ImageError, to_image
from zeroseg_jax.inference import batches, guide_image, labelling, model_files, windows
from zeroseg_jax.inference import model as models
from zeroseg_jax.inference.background import BACKGROUND, choose_background
from zeroseg_jax.inference.batches import EncodedImage
from zeroseg_jax.inference.cache import LruCache
from zeroseg_jax.inference.class_names import to_classes
from zeroseg_jax.inference.class_vectors import ClassEmbedder
from zeroseg_jax.inference.image_files import list_files, read_groups
from zeroseg_jax.inference.presets import Preset
from zeroseg_jax.inference.scoring import Encoded
from zeroseg_jax.inference.segmentation import Segmentation, index_dtype, number_segments
from zeroseg_jax.inference.segmenters import ModelSegmenter
from zeroseg_jax.teacher.aliases import DEFAULT
from zeroseg_jax.teacher.model_names import is_name

ImageLike = str | Path | Image.Image | np.ndarray
ClassNames = str | Sequence[str | Sequence[str]]
Background = float | ClassNames | None
DTYPES = ("float32", "bfloat16", "float16")
_MAX_DETAIL_PX = 2048  # short side: the resized image and its windows are held in memory
_CACHED_IMAGES, _CACHED_BYTES = 32, 1 << 29


class Predictor:
    """A model that segments images into a Segmentation; made by `from_pretrained`.

    It may be used from several threads at once.

    Args:
      model: from inference.model.load.
      preset: settings of layout, scores and labels; None for the model's own.
      cache_names: True also caches embedded class names on disk, for the next process.
      dtype: dtype of the model's matrix products: "float32", "bfloat16", "float16" or "" for its
        own; norms, softmax and scores stay in float32.
    """

    def __init__(
        self, model: models.Model, preset: Preset | None = None, *,
        cache_names: bool = True, dtype: str = "",
    ):  # fmt: skip
        if dtype not in ("", *DTYPES):
            raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}.")
        self.model, self.preset = model, preset or model.get_preset()
        self.segmenter = ModelSegmenter(
            model, self.preset.normalisation, positions=self.preset.positions, dtype=dtype
        )
        self._window_px = windows.check_window(
            self.preset, image_px=model.image_px, patch_px=model.patch_px
        )
        self.embedder = ClassEmbedder(model.teacher, self.preset, on_disk=cache_names)
        self._images: LruCache[EncodedImage] = LruCache(_CACHED_IMAGES, _CACHED_BYTES)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path = DEFAULT, *, teacher: str | Path = "", readout: str = "",
        settings: dict[str, str] | None = None, cache_names: bool = True, dtype: str = "",
    ) -> Predictor:  # fmt: skip
        """Load a model.

        Args:
          directory: name of a public model ("clip-b16", "dinov2+clip-b16",
            "hf:owner/name@revision"), fetched once; work directory of a run; what save_pretrained
            or `zeroseg export` wrote; directory of a CLIP; or "playground" for the student that
            ships and knows only drawn shapes.
          teacher: directory or name of a student's CLIP; "" for the one inside an export or the
            run's own.
          readout: dense read-out of a CLIP, see teacher.readouts; "" for the model's default.
          settings: fields of the preset as text, for example {"stride_px": "28"}.
          cache_names, dtype: see Predictor.

        Raises:
          ValueError: the directory holds no model, the teacher is not the student's, or a setting
            is wrong.
        """
        model = models.load(directory, teacher=teacher, readout=readout)
        preset = model.get_preset(settings)
        if preset.threshold:
            raise ValueError("--set: threshold is for evaluation; give background=THRESHOLD here.")
        return cls(model, preset, cache_names=cache_names, dtype=dtype)

    @property
    def checkpoint(self) -> str:
        """Name of the model for reports."""
        return self.model.checkpoint

    def __repr__(self) -> str:
        config, clip = self.model.config, self.model.teacher.directory.name
        if config is None:
            return f"Predictor of {self.checkpoint} at {self._window_px} px"
        return (
            f"Predictor of {self.checkpoint}: ViT of width {config.model.encoder.width} at "
            f"{self._window_px} px, teacher {clip}"
        )

    @overload
    def segment(
        self, image: ImageLike, classes: ClassNames, *,
        background: Background = None, detail: int = 1, refine: bool = True, source: str = "",
    ) -> Segmentation: ...  # fmt: skip

    @overload
    def segment(
        self, image: list[Any] | tuple[ImageLike, ...], classes: ClassNames, *,
        background: Background = None, detail: int = 1, refine: bool = True, source: str = "",
    ) -> list[Segmentation]: ...  # fmt: skip

    def segment(
        self,
        image: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        classes: ClassNames,
        *,
        background: Background = None,
        detail: int = 1,
        refine: bool = True,
        source: str = "",
    ) -> Segmentation | list[Segmentation]:
        """Assign each pixel of an image to one of the classes.

        Args:
          image: path, Pillow image or array of any size, see data.transforms.to_image; or a list
            of them.
          classes: ["cat", "grass"]; ["ring", "hoop"] inside the list for the names of one class;
            or text as on the command line, "cat, ring/hoop" or "cat; ring, hoop".
          background: threshold in [0, 1] under which a pixel is background; or class names whose
            pixels are background; "auto": SCLIP's 26 kinds of stuff; "none": every pixel gets one
            of the classes. None: "auto" for a frozen CLIP of photographs, else "none".
          detail: multiple of the training resolution; higher values find smaller objects, and
            time grows with its square.
          refine: False skips the refinement of edges (PAMR or the guided filter).
          source: name of the image in results; "": its path, if it has one.

        Returns:
          A Segmentation at the image's own size; for a list, a list in its order.

        Raises:
          ValueError: an image, a class name or an option that is wrong.
        """
        wanted = to_classes(classes)
        threshold, background_classes = self.read_background(background, wanted)
        several = isinstance(image, list | tuple)
        inputs: Sequence[ImageLike] = image if isinstance(image, list | tuple) else [image]
        arrays = [to_image(one) for one in inputs]
        results = []
        encoded_images = self.encode(arrays, detail=detail)
        for given, array, encoded in zip(inputs, arrays, encoded_images, strict=True):
            name = source or (str(given) if isinstance(given, str | Path) else "")
            result = self.score_classes(
                encoded, wanted, background_classes, array, refine=refine, source=name
            )
            results.append(result.with_background(threshold))
        return results if several else results[0]

    __call__ = segment

    def segment_files(
        self, files: str | Path | Sequence[str | Path], classes: ClassNames, *, batch: int = 1,
        on_error: Callable[[ImageError], None] | None = None, background: Background = None,
        detail: int = 1, refine: bool = True,
    ) -> Iterator[Segmentation]:  # fmt: skip
        """Segment files, folders, globs and videos one after the other, without holding them all.

        Args:
          files: one or several, see inference.image_files.list_files.
          classes: see segment.
          batch: number of images that are encoded together.
          on_error: receiver of the error of each unreadable image; None raises it.
          background, detail, refine: see segment.

        Returns:
          A Segmentation of each image, in order, made when it is asked for; `source` is its path.

        Raises:
          ValueError: see segment; or a folder without an image.
        """
        if batch < 1:
            raise ValueError(f"batch: {batch} is less than 1.")
        wanted = to_classes(classes)
        several = [files] if isinstance(files, str | Path) else files
        found = list_files([str(file) for file in several])
        options: dict[str, Any] = dict(background=background, detail=detail, refine=refine)

        def segment_groups() -> Iterator[Segmentation]:
            for names, images in read_groups(found, batch, on_error):
                for name, result in zip(names, self(images, wanted, **options), strict=True):
                    yield dataclasses.replace(result, source=name)

        return segment_groups()

    def encode(self, images: Sequence[np.ndarray], *, detail: int = 1) -> list[EncodedImage]:
        """Encode uint8 (H, W, 3) images without class names; recent ones are cached.

        Raises:
          ValueError: `detail` is out of range.
        """
        short = self.preset.short_side_px or self.model.image_px
        most = max(1, _MAX_DETAIL_PX // short)
        if not isinstance(detail, int) or not 1 <= detail <= most:
            raise ValueError(f"detail: {detail} is not a whole number between 1 and {most}.")
        keys = [_digest(image, detail) for image in images]
        found: dict[Hashable, EncodedImage] = {}
        missing: dict[Hashable, np.ndarray] = {}
        for key, image in zip(keys, images, strict=True):
            cached = self._images.get(key)
            if cached is None:
                missing[key] = image
            else:
                found[key] = cached
        for key, encoded in zip(missing, self._encode(missing.values(), detail), strict=True):
            found[key] = encoded
            self._images.put(key, encoded, encoded.nbytes)
        return [found[key] for key in keys]

    def clear_cache(self) -> None:
        """Evict the cached encodings of images."""
        self._images.clear()

    def score_classes(
        self,
        encoded: EncodedImage,
        classes: list[list[str]],
        background_classes: list[list[str]],
        image: np.ndarray | None,
        *,
        refine: bool = True,
        source: str = "",
    ) -> Segmentation:
        """Label an encoded image with class names.

        Args:
          encoded: from `encode`; its size is that of the labels.
          classes: names of each class.
          background_classes: names of the classes whose pixels are background.
          image: uint8 (H, W, 3), stored in the result; None stores black.
          refine: see segment.
          source: name stored in the result.

        Returns:
          A Segmentation; "background" comes first if there are background classes.
        """
        vectors = self.embedder.embed(classes, background_classes)
        scored = batches.score_encoded(self.segmenter, encoded.encoded, vectors, self.preset)
        merged, rule = batches.merge_windows(
            self.segmenter, encoded.layout, scored, vectors, self.preset
        )
        guide = encoded.guide if refine else None
        if guide is not None and self.preset.refine == "guided" and image is not None:
            guide = image  # its own edges, beyond the cached guide's size
        labelled = labelling.label_image(merged, encoded.size, rule, self.preset, guide)
        names = tuple(names[0] for names in classes)
        shown = (BACKGROUND, *names) if background_classes else names
        mask: np.ndarray = labelled.labels.astype(index_dtype(len(shown)))
        segments = number_segments(labelled.segment_ids)
        if image is None:
            image = np.broadcast_to(np.uint8(0), (*encoded.size, 3))
        return Segmentation(
            image, mask, labelled.scores, segments, shown, self.checkpoint, source, self.facts,
        )  # fmt: skip

    def read_background(
        self, background: Background, classes: list[list[str]]
    ) -> tuple[float, list[list[str]]]:
        """Return the threshold and the class names of the background; see choose_background."""
        automatic = self.model.kind == "readout" and self.model.knows_photographs
        return choose_background(
            background, classes, self.preset.background_words, automatic=automatic
        )

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Facts of the model in results: see Model.describe, and the preset's settings."""
        return {**self.model.describe(self.preset), "preset": dataclasses.asdict(self.preset)}

    def save_pretrained(
        self, directory: str | Path, *, include_teacher: bool = True, dtype: str = "float32"
    ) -> Path:
        """Write config.json, the student's model.safetensors, a model card and the teacher.

        Args:
          directory: created if missing.
          include_teacher: copy the CLIP too, so that the directory is complete; else its digest is
            kept and its pinned name, by which from_pretrained fetches it. Without a pinned name,
            from_pretrained(teacher=...) gives the directory.
          dtype: "float32" or "float16" for a student's tensors.

        Returns:
          The directory.

        Raises:
          ValueError: float16 cannot hold a value.
        """
        model = self.model
        if model.located is not None:
            return model_files.write_readout(
                directory, model.readout, model.teacher, model.located, affinity=model.affinity,
                include_teacher=include_teacher,
            )  # fmt: skip
        assert model.config is not None  # a student has settings
        recorded = model.config.teacher.directory
        named = recorded == "playground" or is_name(recorded)
        return model_files.write_pretrained(
            model.params, model.config, directory, {**model.facts, "teacher": model.teacher.digest},
            step=int(model.checkpoint.rpartition(" at step ")[2]),
            teacher=recorded if named else model.teacher.directory,
            include_teacher=include_teacher, dtype=dtype,
        )  # fmt: skip

    def _encode(self, images: Iterable[np.ndarray], detail: int) -> Iterator[EncodedImage]:
        laid_out = (
            batches.resize_and_lay_out(
                image, self.preset, self.segmenter, detail=detail, item=image
            )
            for image in images
        )
        per_call = self.segmenter.windows_per_call
        for one in batches.run_windows(
            self.segmenter.encode, laid_out, windows_per_call=per_call, batch=2 * per_call
        ):
            guide = guide_image.build_guide(one.item, self.preset, one.resized)
            yield EncodedImage(one.item.shape[:2], one.layout, one.stack(Encoded), guide)


def _digest(image: np.ndarray, detail: int) -> Hashable:
    content = np.ascontiguousarray(image).data
    return image.shape, detail, hashlib.blake2b(content, digest_size=16).digest()
