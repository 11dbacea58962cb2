"""A running function's server, for the tests that ask it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from pianoai.serving import Server


@contextlib.contextmanager
def served(model: Path, page: Path) -> Iterator[Server]:
    """The server of a model and a page on a free port, in a thread that ends with it."""
    with Server(model, page, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
