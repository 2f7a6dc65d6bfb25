"""A server of the page in a thread."""

import contextlib
import threading
import time

from zeroseg_jax.inference.web import server as web


@contextlib.contextmanager
def serve(models, **options):
    """Yield the port of web.build_server(models, **options) until the context ends."""
    server = web.build_server(models, **options)
    with web.open_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)
