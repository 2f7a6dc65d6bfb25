"""Sessions of the web page: uploads, segmentation requests, and their limits.

Each upload is encoded once and kept in an LRU cache under a random token. One job runs at a time;
queue length and job time are limited.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import dataclasses
import io
import secrets
import types
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from zeroseg_jax.data import drawing
from zeroseg_jax.data.transforms import decode_image
from zeroseg_jax.inference import outputs
from zeroseg_jax.inference.batches import EncodedImage
from zeroseg_jax.inference.cache import LruCache
from zeroseg_jax.inference.class_names import check_classes, parse_classes
from zeroseg_jax.inference.segmentation import Segmentation
from zeroseg_jax.inference.web.edits import MAX_EDITS, apply_edits, read_edits
from zeroseg_jax.inference.web.models import Models

T = TypeVar("T")
_FIELDS: dict[str, type | types.UnionType] = {
    "picture": str, "words": str, "background": str, "threshold": float | int, "refine": bool,
    "name": str, "word": str, "polygons": str, "edits": list, "width": int, "height": int,
}  # fmt: skip
_WATCH_SECONDS = 0.2
_WARM_UP_SHAPE = (480, 640, 3)  # the commonest aspect of photographs


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of requests; a request beyond one gets an HTTP status and a sentence.

    Attributes:
      upload_bytes, pixels: size of an uploaded file and of its image.
      words, letters: number of class names and of letters in each.
      request_bytes: size of a request with class names and options.
      queue: number of jobs that wait or run.
      seconds, upload_seconds: time of a job, waiting included, and of an upload.
      pictures, cached_bytes: number and memory of cached encodings.
      shown_px: long side of the maps that the page draws; downloads have full size.
    """

    upload_bytes: int = 16_000_000
    pixels: int = 25_000_000
    words: int = 64
    letters: int = 60
    request_bytes: int = 32_000
    queue: int = 8
    seconds: float = 60.0
    upload_seconds: float = 30.0
    pictures: int = 64
    cached_bytes: int = 1 << 29
    shown_px: int = 1024


@dataclasses.dataclass(frozen=True)
class Upload:
    """An encoded image, and the number of the model that encoded it."""

    model: int
    encoded: EncodedImage


class RequestError(Exception):
    """A request that is refused, with an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Sessions:
    """Requests of all visitors; an image belongs to the model that encoded it.

    Args:
      models: models to choose from.
      limits: limits of requests.
    """

    def __init__(self, models: Models, limits: Limits):
        self.models, self.limits = models, limits
        self._images: LruCache[Upload] = LruCache(limits.pictures, limits.cached_bytes)
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._pending = 0

    def check_model(self, number: str) -> int:
        """Return the number of a model.

        Raises:
          RequestError: 422 if there is no such model.
        """
        count = len(self.models.names)
        if not (number.isascii() and number.isdecimal() and len(number) < 4) or (
            int(number) >= count
        ):
            raise RequestError(422, f"model: {number[:40]!r} is not one of 0 to {count - 1}.")
        return int(number)

    async def describe(self, number: int) -> dict[str, Any]:
        """Return what the page says of a model, see Models.describe; load it if need be."""
        if self.models.is_described(number):
            return self.models.describe(number)
        return await self.run(lambda: self.models.describe(number))

    def warm_up(self, words: str) -> None:
        """Compile and embed class names in the worker thread, ahead of the first request.

        Args:
          words: class names that the page begins with.
        """

        def segment() -> None:
            (encoded,) = self.models.get(0).encode([np.zeros(_WARM_UP_SHAPE, np.uint8)])
            self._segment(Upload(0, encoded), {
                "classes": parse_classes(words), "background": "none", "refine": True,
                "source": "", "threshold": 0.0, "edits": [], "size": encoded.size,
            })  # fmt: skip

        self._pool.submit(segment)

    async def run(
        self, job: Callable[[], T], is_disconnected: Callable[[], Awaitable[bool]] | None = None
    ) -> T:
        """Run a job in the worker thread, off the event loop.

        Args:
          job: function to run.
          is_disconnected: returns whether the client has gone; a job that waits is dropped then.

        Raises:
          RequestError: 503 if the queue is full; 504 if the job takes too long (it still runs to
            its end and occupies the queue until then); 422 if the job raises ValueError.
        """
        if self._pending >= self.limits.queue:
            raise RequestError(503, f"busy: {self._pending} requests are waiting; try again soon.")
        self._pending += 1
        waiting = self._pool.submit(job)
        future = asyncio.wrap_future(waiting)
        future.add_done_callback(self._leave)
        watch = asyncio.ensure_future(_drop_if_gone(waiting, is_disconnected))
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.seconds)
        except asyncio.CancelledError as error:
            if not waiting.cancelled():
                raise
            raise RequestError(499, "the client disconnected.") from error
        except TimeoutError as error:
            raise RequestError(
                504, f"no answer within {self.limits.seconds:g} s; try a smaller picture."
            ) from error
        except ValueError as error:
            raise RequestError(422, " ".join(str(error).split())) from error
        finally:
            watch.cancel()

    def _leave(self, future: asyncio.Future) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # retrieved, so that asyncio does not warn about it

    def upload(self, content: bytes, model: int) -> dict[str, Any]:
        """Decode an image and encode it by a model: {"picture": token, "width", "height"}."""
        image = decode_image(io.BytesIO(content), "picture", max_pixels=self.limits.pixels)
        (encoded,) = self.models.get(model).encode([image])
        token = secrets.token_urlsafe(16)
        self._images.put(token, Upload(model, encoded), encoded.nbytes)
        return {"picture": token, "width": encoded.size[1], "height": encoded.size[0]}

    def read(self, request: Any) -> tuple[Upload, dict[str, Any]]:
        """Check a request of an image that was uploaded.

        Args:
          request: fields of openapi.build_document's Question.

        Raises:
          RequestError: 422 for an invalid field, 410 for an image that is no longer cached.
        """
        if not isinstance(request, dict):
            raise RequestError(422, "request: not a JSON object.")
        for field, value in request.items():
            if field not in _FIELDS or not isinstance(value, _FIELDS[field]):
                raise RequestError(422, f"request: {field[:40]!r} is unknown or of a wrong type.")
        upload = self._images.get(request.get("picture", ""))
        try:
            options = self._check(request, upload.encoded.size if upload else (1, 1))
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        if upload is None:
            raise RequestError(410, "the picture is no longer cached; send it again.")
        return upload, options

    def _check(self, request: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        limits = {"limit": self.limits.words, "letters": self.limits.letters}
        classes = parse_classes(request.get("words", ""), "words", **limits)
        background = request.get("background", "").strip()
        if background not in ("", "auto", "none"):
            background = parse_classes(background, "background", **limits)
            check_classes(classes + background, "words and background", **limits)
        threshold = request.get("threshold", 0.0)
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold: {threshold} is outside [0, 1].")
        return {
            "classes": classes,
            "background": background or None,
            "threshold": float(threshold),
            "refine": request.get("refine", True),
            "source": request.get("name", "")[:200],
            "word": request.get("word", ""),
            "polygons": request.get("polygons", ""),
            "edits": read_edits(request.get("edits", []), letters=self.limits.letters),
            "size": self._check_size(request, size),
        }

    def _check_size(self, request: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the answer: those of the upload, or those asked for."""
        height, width = request.get("height", size[0]), request.get("width", size[1])
        for field, side in (("height", height), ("width", width)):
            if isinstance(side, bool) or not 1 <= side <= self.limits.pixels:
                raise ValueError(f"{field}: {side} is outside 1 to {self.limits.pixels}.")
        if height * width > self.limits.pixels:
            raise ValueError(
                f"width, height: {width} x {height} px are more than {self.limits.pixels} pixels."
            )
        # A browser that makes an image smaller rounds both sides.
        if abs(width * size[0] - height * size[1]) > max(*size, width, height):
            raise ValueError(
                f"width, height: {width} x {height} px have not the aspect of the picture, "
                f"{size[1]} x {size[0]} px."
            )
        return height, width

    def maps(self, upload: Upload, options: dict[str, Any]) -> dict[str, Any]:
        """Segment at the size that the page draws; the page applies the threshold itself.

        Returns:
          width, height, words, colours, spare_colours of class names that edits add,
          has_background, and maps: a base64 PNG with the class id in red, the score times 255 in
          green and the segment id modulo 256 in blue.
        """
        height, width = upload.encoded.size
        scale = min(1.0, self.limits.shown_px / max(height, width))
        height, width = (max(1, round(side * scale)) for side in (height, width))
        result = self._segment(
            upload, {**options, "threshold": 0.0, "edits": [], "size": (height, width)}
        )
        names = (*result.class_names, *[""] * MAX_EDITS)
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in drawing.palette(names)]
        maps = np.stack(
            [result.mask, np.rint(255 * result.scores), result.segments % 256], axis=-1
        ).astype(np.uint8)
        return {
            "width": width,
            "height": height,
            "words": list(result.class_names),
            "colours": colours[: len(result.class_names)],
            "spare_colours": colours[len(result.class_names) :],
            "has_background": len(result.class_names) > len(options["classes"]),
            "maps": base64.b64encode(_to_png(Image.fromarray(maps))).decode(),
        }

    def mask(self, upload: Upload, options: dict[str, Any]) -> bytes:
        """Return the index mask at the image's own size, PNG."""
        return _to_png(self._segment(upload, options).mask_image())

    def alpha(self, upload: Upload, options: dict[str, Any]) -> bytes:
        """Return white with one class opaque and a soft edge, PNG; the page cuts its image by it.

        Raises:
          ValueError: a word that is not in the result.
        """
        result = self._segment(upload, options)
        if options["word"] not in result.class_names:
            raise ValueError(f"word: {options['word'][:40]!r} is none of the words.")
        alpha = outputs.build_alpha(result.mask == result.class_names.index(options["word"]))
        return _to_png(Image.fromarray(np.dstack([np.full_like(alpha, 255), alpha]), "LA"))

    def record(self, upload: Upload, options: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON content that `zeroseg segment` writes."""
        return self._segment(upload, options).to_record()

    def polygons(self, upload: Upload, options: dict[str, Any]) -> dict[str, Any]:
        """Return the polygons that `zeroseg segment` writes, see Segmentation.to_polygons.

        Raises:
          ValueError: a format that is unknown or needs an extra.
        """
        outputs.check_polygons(options["polygons"])
        return self._segment(upload, options).to_polygons(options["polygons"])

    def _segment(self, upload: Upload, options: dict[str, Any]) -> Segmentation:
        # The server keeps no images beyond the guide; the browser does.
        predictor, classes = self.models.get(upload.model), options["classes"]
        _, background = predictor.read_background(options["background"], classes)
        encoded = dataclasses.replace(upload.encoded, size=options["size"])
        result = predictor.score_classes(
            encoded, classes, background, None,
            refine=options["refine"], source=options["source"],
        )  # fmt: skip
        return apply_edits(result.with_background(options["threshold"]), options["edits"])


async def _drop_if_gone(
    waiting: concurrent.futures.Future, is_disconnected: Callable[[], Awaitable[bool]] | None
) -> None:
    while is_disconnected is not None and not waiting.running():
        await asyncio.sleep(_WATCH_SECONDS)
        if await is_disconnected() and waiting.cancel():
            return


def _to_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
