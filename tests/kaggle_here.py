"""A Kaggle on this machine, for the real client: as much of its web interface as a download needs, and its faults."""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from pianoai.sources import Piece
from tests.imports import ROOT


class Kaggle(ThreadingHTTPServer):
    """As much of Kaggle's web interface as a download needs, and what can go wrong with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = b""
        self.name = "music.pk"  # where the download is redirected to
        self.statuses: list[int] = []  # answers to come, before those that are well
        self.cuts: list[int] = []  # bytes after which the next downloads break off
        self.hangs = False
        self.headers: dict[str, str] = {}
        self.md5 = ""
        self.asked: list[dict[str, Any]] = []
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is stopped is what a test is after."""


class Handler(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path.endswith("/v1/datasets.DatasetApiService/DownloadDataset")
        self.server.asked.append(json.loads(body))
        if self.server.hangs:
            time.sleep(60)
        status = self.server.statuses.pop(0) if self.server.statuses else 302
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/storage/{self.server.name}")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        left = self.server.data[first:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(left)))
        self.send_header("Accept-Ranges", "bytes")
        md5 = base64.b64encode(hashlib.md5(self.server.data).digest()).decode()
        self.send_header("X-Goog-Hash", f"md5={self.server.md5 or md5}")
        self.end_headers()
        if self.server.cuts:
            left = left[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(left)

    def log_message(self, *_: object) -> None:
        pass


SITE = """import importlib, os
settings = importlib.import_module("kagglesdk.kaggle_env")
settings._env_to_endpoint = dict.fromkeys(settings.KaggleEnv, os.environ["KAGGLE_HERE"])
"""


@contextmanager
def serving(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """A server that the client of every new process talks to, with a cache and a home of its own in `folder`."""
    (folder / "site").mkdir(parents=True)
    (folder / "site/sitecustomize.py").write_text(SITE)
    with Kaggle() as here:
        thread = threading.Thread(target=here.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT"):
            patch.delenv(name, raising=False)
        for name in ("HOME", "KAGGLE_CONFIG_DIR", "KAGGLEHUB_CACHE"):
            patch.setenv(name, str(folder / "home"))
        patch.setenv("PYTHONPATH", f"{folder / 'site'}{os.pathsep}{ROOT}")
        patch.setenv("KAGGLE_HERE", here.url)
        try:
            yield here
        finally:
            here.shutdown()
            thread.join()


def roll_of(piece: Piece) -> coo_matrix:
    """The music as the data set has it: 24 frames a beat, and a silent frame before a repeated note."""
    notes = piece.notes
    roll = np.zeros((int((notes["start"] + notes["duration"]).max()), 128))
    for start, duration, pitch, velocity in notes.tolist():
        roll[start : start + duration, pitch] = velocity / 127
        roll[start - 1 : start, pitch] = 0
    return coo_matrix(roll)
