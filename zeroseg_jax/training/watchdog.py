"""Watchdog of a run: stacks of all threads on stderr when no step ends for a while."""

from __future__ import annotations

import faulthandler
import socket
import sys
import threading
from types import TracebackType

import jax


class Watchdog:
    """Context that reports a run in which nothing ends.

    A collective waits for ever for a host that has stopped; the report names the host that writes
    it and shows where each of its threads waits. It is written once for each silence after the
    first step. The run continues.

    Args:
      seconds: longest silence without a report; 0 for no watchdog.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._beat, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._beat.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self) -> None:
        """Note that a step has ended."""
        self._beat.set()

    def _watch(self) -> None:
        self._beat.wait()  # the first step, whose compilation may take long
        self._beat.clear()
        reported = False
        while not self._closed:
            if self._beat.wait(self._seconds):
                self._beat.clear()
                reported = False
            elif not reported:
                reported = True
                print(
                    f"train: host {jax.process_index()} ({socket.gethostname()}): no step for "
                    f"{self._seconds:g} s (run.watchdog_seconds); its threads:",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(sys.stderr)
