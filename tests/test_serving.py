"""The page's route, and the server on this machine, by real HTTP."""

import base64
import gzip
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pianoai import __main__ as cli
from pianoai import commands
from pianoai.runtime import model
from pianoai.runtime.events import MOST_BODY
from pianoai.runtime.function import Function
from pianoai.serving import Server
from tests.function import http as event
from tests.served import served
from tests.tiny_model import tiny_model

HTML = "<!DOCTYPE html>\n<title>A page — ♪</title>\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    (tmp_path / "model.ts").write_bytes(b"a model")
    monkeypatch.setattr(model, "load", lambda path: tiny_model())
    body = base64.b64encode(gzip.compress(HTML.encode(), mtime=0)).decode()
    headers = {"content-type": "text/html; charset=utf-8", "content-encoding": "gzip", "etag": '"a1"', "x-own": "yes"}
    (tmp_path / "page.json").write_text(json.dumps({"headers": headers, "body": body}))
    return tmp_path / "model.ts", tmp_path / "page.json"


@pytest.fixture
def server(files: tuple[Path, Path]) -> Iterator[Server]:
    with served(*files) as running:
        yield running


def fetch(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers, data


def test_the_page_compressed_plain_and_unchanged(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    function = Function(*files)
    asked = event("GET", "/")
    asked["headers"] = {"Accept-Encoding": "br, gzip"}
    answer = function(asked, None)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert answer["body"] == json.loads(files[1].read_text())["body"]
    assert answer["headers"]["content-encoding"] == "gzip"
    plain = function(event("GET", ""), None)
    assert (plain["statusCode"], plain["body"], plain["isBase64Encoded"]) == (200, HTML, False)
    assert "content-encoding" not in plain["headers"]
    assert plain["headers"]["x-own"] == "yes"
    for accepted, packed in {
        "gzip;q=0, br": False,
        "gzip ; q=0.0": False,
        "br;q=1, gzip;q=0.5": True,
        "x": False,
    }.items():
        asked["headers"]["Accept-Encoding"] = accepted
        assert function(asked, None)["isBase64Encoded"] == packed, accepted
    asked["headers"]["Accept-Encoding"] = "br, gzip"
    capsys.readouterr()
    asked["headers"]["if-none-match"] = '"a1"'
    known = function(asked, None)
    assert (known["statusCode"], known["body"]) == (304, "")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [("page", 304)]
    asked["headers"]["if-none-match"] = '"b2", W/"a1"'  # a list, and made weak by what lies between
    assert function(asked, None)["statusCode"] == 304
    asked["headers"]["if-none-match"] = '"b2"'
    assert function(asked, None)["statusCode"] == 200
    # With a stage of API Gateway before it, and in payload format 1.0.
    staged = event("GET", "/prod/")
    staged["requestContext"]["stage"] = "prod"
    assert function(staged, None)["body"] == HTML
    staged["rawPath"] = "/prod"  # what the page asks for next to it would be elsewhere
    there = function(staged, None)
    assert (there["statusCode"], there["headers"]) == (308, {"location": "/prod/"})
    assert function(staged | {"rawQueryString": "a=1"}, None)["headers"] == {"location": "/prod/?a=1"}
    staged["rawPath"] = "/product"
    assert function(staged, None)["statusCode"] == 404
    assert function({"httpMethod": "GET", "path": "/", "headers": None}, None)["body"] == HTML


def test_without_the_file_the_page_is_missed_and_nothing_else(files: tuple[Path, Path]) -> None:
    files[1].unlink()
    function = Function(*files)
    answer = function(event("GET", "/"), None)
    assert answer["statusCode"] == 404
    assert json.loads(answer["body"])["error"] == "there is no page here"
    assert function(event("GET", "/health"), None)["statusCode"] == 200
    # A direct invocation has no page.
    assert function({"route": "page"}, None)["status"] == 404
    assert function({"route": ""}, None)["status"] == 404


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
def test_the_page_is_only_read(files: tuple[Path, Path], method: str) -> None:
    answer = Function(*files)(event(method, "/"), None)
    assert (answer["statusCode"], answer["headers"]["allow"]) == (405, "GET")


def test_requests_become_events_and_answers_responses(files: tuple[Path, Path], server: Server) -> None:
    fields = {"prompt": [[60], [60, 64]], "frames": 9, "seed": 3}
    status, headers, data = fetch(server, "POST", "/generate?x=1", json.dumps(fields).encode())
    assert (status, headers["content-type"], headers["content-length"]) == (200, "application/json", str(len(data)))
    assert json.loads(data) == Function(*files)(fields, None)
    status, headers, data = fetch(server, "GET", "/", accept_encoding="gzip")
    assert (status, gzip.decompress(data).decode(), headers["content-encoding"]) == (200, HTML, "gzip")
    assert headers["server"] == "pianoai"
    status, _, data = fetch(server, "GET", "/", if_none_match='"a1"')
    assert (status, data) == (304, b"")
    status, headers, data = fetch(server, "PUT", "/generate", b"{}")
    assert (status, headers["allow"]) == (405, "POST")
    status, headers, data = fetch(server, "HEAD", "/health")
    assert (status, data) == (405, b"")
    status, _, data = fetch(server, "POST", "/generate", b"[1,")
    assert (status, json.loads(data)["error"]) == (400, "the body is not JSON")


@pytest.mark.parametrize("size", [MOST_BODY + 1, 20 * MOST_BODY])
def test_a_large_body_is_refused_and_read_to_its_end(server: Server, size: int) -> None:
    status, _, data = fetch(server, "POST", "/generate", b" " * size)
    assert (status, json.loads(data)["error"]) == (413, f"the body is over {MOST_BODY} bytes")


def test_it_listens_to_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_one_request_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    most: list[int] = []
    left: list[float] = []
    pause = threading.Event()

    def slow(asked: Any, context: Any) -> dict[str, Any]:
        running.append(1)
        most.append(len(running))
        pause.wait(0.05)
        running.pop()
        left.append(context.get_remaining_time_in_millis())
        return {"statusCode": 200, "headers": {}, "body": "ok", "isBase64Encoded": False}

    monkeypatch.setattr(server, "function", slow)
    threads = [threading.Thread(target=fetch, args=(server, "GET", "/")) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
    assert all(50_000 < each <= 60_000 for each in left)
    assert len(left) == 5


def test_a_client_that_does_not_wait_is_no_fault(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        connection = socket.create_connection(("127.0.0.1", server.server_port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        connection.sendall(b"POST /generate HTTP/1.0\r\ncontent-length: 20000\r\n\r\n{")
        connection.close()
    status, _, _ = fetch(server, "GET", "/health", content_length="9" * 5000)
    assert status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_port_that_is_taken_or_none(
    server: Server, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["serve", "--model", str(files[0]), "--page", str(files[1]), "--port"]
    assert cli.main([*options, str(server.server_port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: port {server.server_port}: ")
    assert error.endswith("; choose another one with --port\n")
    assert cli.main([*options, "65536"]) == 1
    assert capsys.readouterr().err == "error: port 65536: choose one from 0 to 65535\n"


def test_serving_until_it_is_interrupted(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    options = ["serve", "--model", str(files[0]), "--page", str(files[1]), "--port", "0"]
    assert cli.main(options) == 0
    assert capsys.readouterr().out.endswith("/ (Ctrl-C ends it)\n")


def test_a_page_that_is_named_must_be_one(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "serve_forever", lambda self: None)
    options = ["serve", "--model", str(files[0]), "--port", "0", "--page"]
    good = files[1].read_text()
    shapes = ("{}", "[", "[]", good.replace("etag", "tag"), good.replace('"body": "', '"body": "AAAA'))
    for content in shapes:
        files[1].write_text(content)
        assert cli.main([*options, str(files[1])]) == 1
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", f"error: {files[1]}: is no page; name a file that `make demo` made\n")
    files[1].unlink()
    assert cli.main([*options, str(files[1])]) == 1
    assert capsys.readouterr().err == f"error: {files[1]}: no such file; --page must name one\n"
    # What no option names need not be there.
    monkeypatch.setattr(commands, "PAGE", files[1])
    assert cli.main(options[:-1]) == 0
    assert "no page there, which `make demo` makes" in capsys.readouterr().out
