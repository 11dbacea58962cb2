"""A real S3 server in front of which things go wrong: a proxy that refuses, cuts off and delays as a test says."""

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

# Of a request's method and path what happens instead, or None:
# ("status", 503), ("cut upload", 1000) or ("cut download", 1000), where so many bytes of the body come through.
Fault = Callable[[str, str], tuple[str, int] | None]
HOP = {"connection", "transfer-encoding", "keep-alive"}


class Proxy(ThreadingHTTPServer):
    """Hands requests on to 127.0.0.1:`upstream`, but for what `fault` says; `seen` are the lines of all requests."""

    daemon_threads = True

    def __init__(self, upstream: int, fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.fault = upstream, fault
        self.before_cut: Callable[[], None] = lambda: None  # called when that many bytes are through
        self.seen: list[str] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what tests are after: nothing is printed."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        """Pass it on, or do what the test wants instead."""
        self.server.seen.append(f"{self.command} {self.path}")
        what, number = self.server.fault(self.command, self.path) or ("", 0)
        length = int(self.headers.get("Content-Length", 0))
        if what == "cut upload":
            part = self.rfile.read(min(length, number))
            upstream = self.ask()
            upstream.send(part)
            time.sleep(0.1)  # the server has it
            self.server.before_cut()
            upstream.close()
            self.hang_up()
            return
        body = self.rfile.read(length)
        if what == "status":
            code = {403: "AccessDenied", 503: "SlowDown"}[number]
            self.answer(number, [], f"<Error><Code>{code}</Code><Message>{number}</Message></Error>".encode())
            return
        upstream = self.ask()
        upstream.send(body)
        found = upstream.getresponse()
        content = found.read()
        headers = [(name, value) for name, value in found.getheaders() if name.lower() not in HOP]
        if what == "cut download":
            self.answer(found.status, headers, content, number)
            self.server.before_cut()
            self.hang_up()
            return
        self.answer(found.status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def ask(self) -> http.client.HTTPConnection:
        """A connection to the server on which this request has been sent but for its body."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":  # http.server has answered that
                upstream.putheader(name, value)
        upstream.endheaders()
        return upstream

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, most: int | None = None) -> None:
        """Send it, or only the first `most` bytes of the body."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:most])

    def hang_up(self) -> None:
        """End the connection in the middle of things."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def in_front_of(port: int, fault: Fault) -> Iterator[Proxy]:
    """A proxy that runs until the end of the block."""
    with Proxy(port, fault) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
