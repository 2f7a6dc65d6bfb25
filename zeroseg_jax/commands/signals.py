"""SIGTERM and Ctrl-C: every command ends in one line, with exit code 143 or 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

SIGNAL_EXIT = 128  # plus the number of the signal


# The main thread has this long to run its handler.
_PATIENCE_SECONDS = 0.3
_ending = threading.Lock()


def end_on_signals() -> None:
    """End this process on SIGTERM and SIGINT; an ignored signal stays ignored.

    While XLA compiles, the main thread runs no handler; a thread then ends the process.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a script's background job
            signal.signal(number, _stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def _watch(reader: int) -> None:
    """End the process on a signal whose handler is _stop, if the main thread does not."""
    while arrived := os.read(reader, 1):
        handler = signal.getsignal(arrived[0])
        time.sleep(_PATIENCE_SECONDS)
        if handler is _stop:
            _end(arrived[0])


def _stop(number: int, frame: object) -> None:
    del frame
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: it was being flushed
        sys.stdout.flush()
    _end(number)


def _end(number: int) -> None:
    """End the process at once, in one line.

    An exception may be lost while packages are imported, and threads of XLA would crash a normal
    end. Files are written atomically; train and sweep have handlers while they have work to save.
    """
    if not _ending.acquire(blocking=False):
        return  # the other thread is at it
    again = "" if sys.argv[0].endswith("serve") else "; run the same command again"
    line = f"{sys.argv[0]}: stopped by {signal.Signals(number).name}{again}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="backslashreplace"))
    os._exit(SIGNAL_EXIT + number)
