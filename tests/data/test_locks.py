"""Locks of directories between processes, and after their death."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zeroseg_jax.data.locks import LockedError, lock_directory

ROOT = Path(__file__).parent.parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from zeroseg_jax.data.locks import lock_directory
with lock_directory(Path(sys.argv[1]), "trains"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(directory):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_the_second_process_is_told_who_holds_it(tmp_path):
    with hold(tmp_path) as process:
        with pytest.raises(LockedError) as caught, lock_directory(tmp_path, "trains"):
            pass
        process.kill()
    assert str(caught.value) == (
        f"{tmp_path}: process {process.pid} on {socket.gethostname()} trains there; wait for it, "
        "stop it, or use another directory."
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_process_locks_nothing(tmp_path, number):
    with hold(tmp_path) as process:
        process.send_signal(number)
    assert (tmp_path / ".lock").is_file()
    with lock_directory(tmp_path, "trains"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_one_process_holds_it_once_and_other_names_are_free(tmp_path):
    with lock_directory(tmp_path / "new", "prepares", name=".lock-0"):
        with lock_directory(tmp_path / "new", "prepares", name=".lock-1"):
            pass
        with pytest.raises(LockedError), lock_directory(tmp_path / "new", "x", name=".lock-0"):
            pass
    with lock_directory(tmp_path / "new", "prepares", name=".lock-0"):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), lock_directory(tmp_path / "file", "trains"):
        pass
