"""SIGTERM and Ctrl-C: every command ends in one line, with exit code 143 or 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

SIGNAL_EXIT = 128  # plus the number of the signal


def end_on_signals() -> None:
    """End this process on SIGTERM and SIGINT; an ignored signal stays ignored."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a script's background job
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> NoReturn:
    """End the process at once, in one line.

    An exception may be lost while packages are imported, and threads of XLA would crash a normal
    end. Files are written atomically; train and sweep have handlers while they have work to save.
    """
    del frame
    again = "" if sys.argv[0].endswith("serve") else "; run the same command again"
    line = f"{sys.argv[0]}: stopped by {signal.Signals(number).name}{again}\n"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: it was being flushed
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="backslashreplace"))
    os._exit(SIGNAL_EXIT + number)
