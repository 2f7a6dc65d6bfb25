"""Two real processes over loopback agree with one; hosts that are missing are said."""

import signal
import socket
import time

import numpy as np
import pytest

from tests.training.tiny import losses_of
from zeroseg_jax.training import hosts


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_two(start, workdir, *arguments):
    address = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        start(workdir, address, "--host_count=2", f"--host_index={index}", "--config.mesh.data=-1",
              *arguments, devices=2)
        for index in range(2)
    ]  # fmt: skip


def test_two_processes_agree_with_one_stop_together_and_go_on(tmp_path, start, whole):
    workdir = tmp_path / "run"
    pair = start_two(start, workdir, "--config.mesh.fsdp=2")
    while all(process.poll() is None for process in pair) and len(losses_of(workdir)) < 3:
        time.sleep(0.05)
    pair[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate()[0] for process in pair]
    assert [process.returncode for process in pair] == [143, 143], outputs
    # On one process and one device it goes on, whatever was reached.
    alone = start(workdir)
    assert alone.wait() == 0, alone.communicate()[0]
    expected, found = losses_of(whole), losses_of(workdir)
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        np.testing.assert_allclose(found[step], loss, rtol=1e-5)


def test_a_host_that_does_not_come_is_one_sentence(tmp_path, start):
    address = f"--coordinator=127.0.0.1:{free_port()}"
    lonely = start(tmp_path / "run", address, "--host_count=2", "--host_index=0",
                   "--join_seconds=3")  # fmt: skip
    output, _ = lonely.communicate()
    assert lonely.returncode == 2, output
    assert "error: --host_count: 2 processes could not be joined within 3 s" in output
    assert not (tmp_path / "run").exists()


def test_an_index_outside_the_count_is_said():
    with pytest.raises(ValueError, match="--host_index: 2 is not below --host_count 2"):
        hosts.join_hosts(2, index=2)


def test_a_platform_that_is_not_there_is_one_sentence(tmp_path, start):
    process = start(tmp_path / "run", JAX_PLATFORMS="cuda")
    output, _ = process.communicate()
    assert process.returncode == 2, output
    assert "error: JAX_PLATFORMS=cuda: JAX cannot start it" in output
