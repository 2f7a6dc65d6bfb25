"""Signals to commands: one line, an exit code of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def wait_for_handlers(process):
    """Wait until the process has a handler of SIGTERM; before, Python itself starts."""
    caught = 0
    while process.poll() is None and not caught >> (signal.SIGTERM - 1) & 1:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_signals_end_a_command_in_one_line(tmp_path, number, seconds):
    """While packages load, and while images are encoded."""
    arguments = ("prepare", "--config=debug", f"--workdir={tmp_path}", "--config.data.images=4000",
                 "--config.data.features=bank")  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "zeroseg_jax", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for_handlers(process)
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    # The verb is not read yet in the first moments.
    told = rf"zeroseg( prepare)?: stopped by {number.name}; run the same command again\n"
    assert re.fullmatch(told, errors.splitlines(keepends=True)[-1]), errors
    assert "Traceback" not in errors and len(errors.splitlines()) <= 2, errors


def test_a_signal_ends_a_training_while_it_compiles(tmp_path):
    """The main thread is in XLA and runs no handler; nothing is lost, for no step was done."""
    number = signal.SIGTERM
    arguments = ("train", "--config=debug", f"--workdir={tmp_path}", "--config.data.images=8")
    with subprocess.Popen(
        [sys.executable, "-m", "zeroseg_jax", *arguments], cwd=ROOT, text=True,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        before = []
        for line in process.stdout:
            before.append(line)
            if "compiling the step" in line:
                break
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert errors == f"zeroseg train: stopped by {number.name}; run the same command again\n"
    assert "compiling the step" in before[-1] and not output
    assert not (tmp_path / "metrics.jsonl").read_text()


def test_a_signal_ends_c_code_that_runs_no_handler():
    """Hashing in C stands for a compilation of minutes; both hold the main thread."""
    program = (
        "import hashlib, sys\n"
        "from zeroseg_jax.commands.signals import end_on_signals\n"
        "sys.argv = ['zeroseg export']\n"
        "end_on_signals()\n"
        "print('begins', flush=True)\n"
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"  # half an hour
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors == "zeroseg export: stopped by SIGTERM; run the same command again\n"
