"""The watchdog reports silences, and only those."""

import subprocess
import sys

SILENT = """
import time
from zeroseg_jax.training.watchdog import Watchdog

def wait_for_the_other_host():
    time.sleep(1.5)

with Watchdog({seconds}) as dog:
    dog.beat()
    wait_for_the_other_host()
print("went on")
"""


def run(seconds):
    done = subprocess.run(
        [sys.executable, "-c", SILENT.format(seconds=seconds)], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "went on\n", done.stderr
    return done.stderr


def test_a_silence_is_reported_once_with_host_and_stacks():
    found = run(0.3)
    assert found.count("train: host 0 (") == 1 and "no step for 0.3 s" in found
    assert "wait_for_the_other_host" in found


def test_steps_in_time_and_no_watchdog_are_silent():
    assert run(60) == "" and run(0) == ""
