"""Eight faked CPU devices, parsed flags, no network but loopback."""

import os
import pathlib
import signal
import socket
import tempfile

from tests.compiling import QUICK

# ZEROSEG_TEST_PLATFORMS=cuda runs what needs one device on a GPU.
os.environ["JAX_PLATFORMS"] = os.environ.get("ZEROSEG_TEST_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count=8 {QUICK}"
)
# With two programs in flight on eight faked devices, XLA's collectives on a CPU can wait for each
# other for ever: seen with jax 0.10.2 on two cores in the steps of CLIP-ZSS.
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "0"

# Child processes compile the same programs again: cache them.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent.parent / ".pytest_cache/jax")
)

# Class embeddings of the tests stay out of the user's cache.
_cache = tempfile.TemporaryDirectory(prefix="zeroseg-tests-")
os.environ["XDG_CACHE_HOME"] = _cache.name

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: signals that tests
# send would never arrive.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
from absl import flags, logging  # noqa: E402

# grain's worker processes read absl flags, which pytest does not parse.
flags.FLAGS.mark_as_parsed()
logging.set_verbosity(logging.WARNING)

_connect = socket.socket.connect


def _local_only(self, address):
    host = address[0] if isinstance(address, tuple) else "unix"
    if host not in ("unix", "localhost", "::1") and not str(host).startswith("127."):
        raise OSError(f"tests stay on this machine: refused to connect to {host}")
    return _connect(self, address)


def pytest_collection_modifyitems(items):
    """Put the files with the longest tests first, so that all workers end together."""
    items.sort(key=lambda item: "tests/training/" not in item.nodeid)


@pytest.fixture(autouse=True, scope="session")
def no_network():
    socket.socket.connect = _local_only
    yield
    socket.socket.connect = _connect
