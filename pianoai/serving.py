"""A server on this machine that does what a function URL does: HTTP requests become events of the same function."""

import base64
import contextlib
import http.server
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pianoai.runtime.errors import InputError
from pianoai.runtime.events import MOST_BODY
from pianoai.runtime.function import Function

HOST = "127.0.0.1"
TIMEOUT = 60.0  # seconds that the function has, as in lambda_pkg/template.yaml
MOST_DIGITS = 16  # of a length
PATIENCE = 10.0  # seconds that a browser may take to send a request


class Context:
    """What the function asks Lambda's context for."""

    def __init__(self) -> None:
        self.end = time.monotonic() + TIMEOUT

    def get_remaining_time_in_millis(self) -> float:
        """Milliseconds that are left."""
        return max(0.0, self.end - time.monotonic()) * 1000


class Server(http.server.ThreadingHTTPServer):
    """Answers with a function, one request at a time, as an instance on Lambda does."""

    daemon_threads = True

    def __init__(self, model: Path, page: Path, port: int) -> None:
        """Loads the model. Raises InputError for a file that is none, and for a port that is taken."""
        self.function = Function(model, page)
        self.one = threading.Lock()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; choose another one with --port") from None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    """A request: an event of payload format 2.0, and its answer."""

    timeout = PATIENCE
    server: Server

    def do_GET(self) -> None:
        """Whatever the function says."""
        with contextlib.suppress(ConnectionError):  # a page may stop listening
            self.answer()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_GET

    def answer(self) -> None:
        """Reads the body, asks the function, and writes what it answers."""
        length = self.headers.get("content-length", "0")
        left = int(length) if length.isdecimal() and len(length) < MOST_DIGITS else 0
        body = self.rfile.read(min(left, MOST_BODY + 1))  # the function refuses more
        left -= len(body)
        while left > 0 and (more := len(self.rfile.read(min(left, MOST_BODY)))):  # or the browser would not listen
            left -= more
        event = self.event() | {"body": base64.b64encode(body).decode("ascii"), "isBase64Encoded": True}
        with self.server.one:
            response = self.server.function(event, Context())
        self.send(response)

    def event(self) -> dict[str, Any]:
        """The event without its body."""
        path, _, query = self.path.partition("?")
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "requestContext": {"http": {"method": self.command, "path": path}, "stage": "$default"},
        }

    def send(self, response: dict[str, Any]) -> None:
        """Writes a response of the function."""
        body = response["body"]
        data = base64.b64decode(body) if response["isBase64Encoded"] else body.encode()
        self.send_response(HTTPStatus(response["statusCode"]))
        for name, value in response["headers"].items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        """The header `server`, which tells nobody which Python this is."""
        return "pianoai"

    def log_message(self, format: str, *arguments: object) -> None:
        """The function writes the log."""
