"""Signals to commands: one line, an exit code of their own."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.3, 1.2, 3.0])
def test_signals_end_a_command_in_one_line(tmp_path, number, seconds):
    """While packages load, while programs compile, while images are encoded."""
    arguments = ("prepare", "--config=debug", f"--workdir={tmp_path}", "--config.data.images=4000",
                 "--config.data.features=bank")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "zeroseg_jax", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        # Python itself starts before any handler is set.
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors.splitlines()[-1:] == [
        f"zeroseg prepare: stopped by {number.name}; run the same command again"
    ]
    assert "Traceback" not in errors and len(errors.splitlines()) <= 2, errors
