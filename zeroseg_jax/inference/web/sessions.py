"""What the page asks of the model, with the limits that keep it answering.

A picture is decoded and cut once; only the cut stays, in memory, under a name nobody can guess,
until others push it out. One job runs at a time; few may wait; each has its time.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import dataclasses
import io
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from zeroseg_jax.data.transforms import decode_image
from zeroseg_jax.inference.class_names import check_classes, parse_classes
from zeroseg_jax.inference.cutting import Cut, Kept
from zeroseg_jax.inference.predictor import Predictor
from zeroseg_jax.inference.segmentation import Segmentation

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, in one sentence and with its HTTP status."""

    upload_bytes: int = 16_000_000
    pixels: int = 25_000_000
    words: int = 64
    letters: int = 60
    request_bytes: int = 32_000  # of words and options
    queue: int = 8  # jobs and uploads that may wait or run
    seconds: float = 60.0  # for a job, its wait included
    upload_seconds: float = 30.0
    pictures: int = 64  # whose cuts stay in memory
    shown_px: int = 1024  # long side of what the page draws; downloads are full size


class Refusal(Exception):
    """A request that is not served: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Desk:
    """Runs one predictor for many visitors."""

    def __init__(self, predictor: Predictor, limits: Limits):
        self.predictor, self.limits = predictor, limits
        self._cuts = Kept(limits.pictures)
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._pending = 0

    async def run(self, job: Callable[[], T]) -> T:
        """Run a job in its turn, off the event loop.

        Raises:
          Refusal: 503 where too many wait, 504 where it takes too long (the job still ends, and
            holds its place until then), 422 where the job raises ValueError.
        """
        if self._pending >= self.limits.queue:
            raise Refusal(503, f"busy: {self._pending} requests are waiting; try again soon.")
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, job)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.seconds)
        except TimeoutError as error:
            raise Refusal(
                504, f"no answer within {self.limits.seconds:g} s; try a smaller picture."
            ) from error
        except ValueError as error:
            raise Refusal(422, " ".join(str(error).split())) from error

    def _leave(self, future: asyncio.Future) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # read, so that a job nobody waits for does not warn

    def cut(self, content: bytes) -> dict[str, Any]:
        """Decode and cut a picture: {"picture": name, "width", "height"}."""
        image = decode_image(
            io.BytesIO(content), "picture", max_pixels=self.limits.pixels, formats=FORMATS
        )
        cut = self.predictor.cut(image)
        name = secrets.token_urlsafe(16)
        self._cuts.put(name, cut)
        return {"picture": name, "width": cut.size[1], "height": cut.size[0]}

    def read(self, request: Any) -> tuple[Cut, dict[str, Any]]:
        """Check a request {"picture", "words", "behind", "threshold", "refine", "name"}.

        Raises:
          Refusal: 422 for a field that cannot be, 410 for a picture that is no longer held.
        """
        if not isinstance(request, dict):
            raise Refusal(422, "request: not a JSON object.")
        kinds = {"picture": str, "words": str, "behind": str, "threshold": float | int,
                 "refine": bool, "name": str}  # fmt: skip
        for field, value in request.items():
            if field not in kinds or not isinstance(value, kinds[field]):
                raise Refusal(422, f"request: {field[:40]!r} is no field, or of a wrong type.")
        limits = {"limit": self.limits.words, "letters": self.limits.letters}
        try:
            classes = parse_classes(request.get("words", ""), "words", **limits)
            behind = request.get("behind", "").strip()
            behind = parse_classes(behind, "background words", **limits) if behind else []
            check_classes(classes + behind, "words and background words", **limits)
        except ValueError as error:
            raise Refusal(422, str(error)) from error
        threshold = request.get("threshold", 0.0)
        if isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise Refusal(422, f"threshold: {threshold} is outside [0, 1].")
        cut = self._cuts.get(request.get("picture", ""))
        if cut is None:
            raise Refusal(410, "the picture is no longer held; send it again.")
        options = {
            "classes": classes,
            "behind": behind,
            "threshold": float(threshold),
            "refine": request.get("refine", True),
            "source": request.get("name", "")[:200],
        }
        return cut, options

    def show(self, cut: Cut, options: dict[str, Any]) -> dict[str, Any]:
        """Segment at the size the page draws; the threshold is the page's own to move.

        Returns:
          width, height, words, colours, and maps: a PNG in base64 whose red is the word's
          index, green the score of 255, blue the segment's id modulo 256.
        """
        scale = min(1.0, self.limits.shown_px / max(cut.size))
        size = tuple(max(1, round(side * scale)) for side in cut.size)
        result = self._name(dataclasses.replace(cut, size=size), {**options, "threshold": 0.0})
        maps = np.stack(
            [result.mask, np.rint(255 * result.scores), result.segments % 256], axis=-1
        ).astype(np.uint8)
        return {
            "width": size[1],
            "height": size[0],
            "words": list(result.words),
            "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in result.colours],
            "has_background": bool(options["behind"]),
            "maps": base64.b64encode(_to_png(Image.fromarray(maps))).decode(),
        }

    def draw_mask(self, cut: Cut, options: dict[str, Any]) -> bytes:
        """Return the index mask at the picture's own size, PNG."""
        return _to_png(self._name(cut, options).mask_image())

    def tell(self, cut: Cut, options: dict[str, Any]) -> dict[str, Any]:
        """Return what `zeroseg segment` writes as JSON."""
        return self._name(cut, options).to_record()

    def _name(self, cut: Cut, options: dict[str, Any]) -> Segmentation:
        # The picture itself is not held: the page has it.
        nothing = np.broadcast_to(np.uint8(0), (*cut.size, 3))
        named = self.predictor.name(
            cut, options["classes"], options["behind"], nothing,
            refine=options["refine"], source=options["source"],
        )  # fmt: skip
        return named.with_background(options["threshold"])


def _to_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
