"""Progress lines of long loops: count, rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOG_SECONDS = 5.0


class ProgressLog:
    """Log `TASK: DONE/TOTAL UNIT, RATE UNIT/s, TIME left` at most every five seconds.

    The last item is always logged. Rates leave out the first call of `add`, because it may
    include compilation.

    Args:
      task: word that begins each line, for example "prepare".
      total: number of items to come.
      unit: plural of the items, for example "images".
      log: receiver of the lines.
    """

    def __init__(self, task: str, total: int, unit: str, log: Callable[[str], None] = print):
        self._task, self._total, self._unit, self._log = task, total, unit, log
        self._done = self._first = 0
        self._begin = self._last = time.perf_counter()

    def add(self, count: int = 1) -> None:
        """Count items that are done, and log a line if one is due."""
        self._done += count
        now = time.perf_counter()
        if not self._first and self._done < self._total:
            self._begin, self._first = now, count
            return
        if now - self._last < _LOG_SECONDS and self._done < self._total:
            return
        self._last = now
        rate = (self._done - self._first) / max(now - self._begin, 1e-9)
        left = render_duration((self._total - self._done) / max(rate, 1e-9))
        self._log(
            f"{self._task}: {self._done}/{self._total} {self._unit}, "
            f"{rate:.1f} {self._unit}/s, {left} left"
        )


class ImageProgress:
    """Progress of a folder: "3/9, 0.8 s an image, 5 s left", at most once a second.

    The first image is left out of the mean, because it may include compilation.

    Args:
      total: number of images; 0 if it is unknown, as for videos.
    """

    def __init__(self, total: int):
        self._total, self._done = total, 0
        self._first = self._shown = 0.0

    def add(self) -> str:
        """Count an image; return a line, or "" if none is due."""
        now = time.perf_counter()
        self._done += 1
        if self._done == 1:
            self._first = now
            return ""
        if self._total < 2 or (now - self._shown < 1 and self._done < self._total):
            return ""
        self._shown = now
        each = (now - self._first) / (self._done - 1)
        left = render_duration(each * (self._total - self._done))
        return f"{self._done}/{self._total}, {each:.1f} s an image, {left} left"


def render_duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: "40 s", "25 min" or "3.5 h"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
