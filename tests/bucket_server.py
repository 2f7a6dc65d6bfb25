"""A bucket on loopback: gcp-storage-emulator with the header that tensorstore asks for.

    with running_bucket(tmp_path) as environment:
        subprocess.run([...], env=os.environ | environment)

It serves gs://bucket from memory.
"""

import contextlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
MISSING = [name for name in ("gcsfs", "gcp_storage_emulator") if not importlib.util.find_spec(name)]
REASON = f"not installed: {', '.join(MISSING)}"


@contextlib.contextmanager
def running_bucket(folder):
    """Yield the environment in which gcsfs and tensorstore talk to the emulator, anonymously."""
    port_file = Path(folder) / "port"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bucket_server", str(port_file)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,  # a traceback for each connection that a client closes early
    )
    try:
        deadline = time.monotonic() + 60
        while not port_file.is_file():
            assert process.poll() is None and time.monotonic() < deadline, "no emulator"
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port_file.read_text()}"
        yield {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            # gcsfs would ask Google for the kind of each bucket.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
    finally:
        process.kill()
        process.wait()


def _serve(port_file):
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.handlers import objects
    from gcp_storage_emulator.server import create_server

    plain = objects.download

    def download(request, response, storage, *args, **kwargs):
        plain(request, response, storage, *args, **kwargs)
        names = request.params["bucket_name"], request.params["object_id"]
        # Google sends the generation with the content too.
        with contextlib.suppress(NotFound):
            response["x-goog-generation"] = storage.get_file_obj(*names)["generation"]

    objects.download = download
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    part = Path(port_file).with_suffix(".part")
    part.write_text(str(server._api._httpd.server_address[1]))
    part.rename(port_file)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    _serve(sys.argv[1])
