"""What Lambda hands over and takes back: direct invocations, function URLs, API Gateway."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, NoReturn

from pianoai.runtime.errors import InputError
from pianoai.runtime.sampling import shown

MOST_BODY = 256 * 1024  # bytes of a request's body
METHODS = {"generate": "POST", "health": "GET"}  # every route and how it is asked for
PATHS = METHODS | {"": "GET"}  # of HTTP, which has the page as well
HTTP_KEYS = ("requestContext", "rawPath", "httpMethod", "path", "isBase64Encoded")  # what only an HTTP event has
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}


class RequestError(InputError):
    """A request that is refused: an HTTP status, the field at fault ("" where there is none), what to do."""

    def __init__(self, status: int, field: str, error: str, hint: str) -> None:
        super().__init__(error)
        self.status, self.field, self.hint = status, field, hint


@dataclass(frozen=True)
class Call:
    """What an event asks for."""

    route: str
    fields: dict[str, Any]


def is_http(event: object) -> bool:
    """Whether an event is an HTTP request; any other is the request itself."""
    return isinstance(event, dict) and any(key in event for key in HTTP_KEYS)


def read_event(event: object) -> Call:
    """What an event asks for. Raises RequestError."""
    if not isinstance(event, dict):
        raise RequestError(400, "event", f"the event is {shown(event)}", "send a JSON object, {} for all defaults")
    if is_http(event):
        return _read_http(event)
    fields = dict(event)
    route = fields.pop("route", None)
    route = "generate" if route is None else route
    if not isinstance(route, str) or route not in METHODS:
        raise RequestError(404, "route", f"route is {shown(route)}", f"choose one of {', '.join(METHODS)}")
    return Call(route, fields)


def _read_http(event: dict[str, Any]) -> Call:
    """An HTTP event: API Gateway's payload 2.0, as function URLs have it, or 1.0."""
    context = event.get("requestContext")
    context = context if isinstance(context, dict) else {}
    http = context.get("http")
    http = http if isinstance(http, dict) else {}
    path = next((p for p in (event.get("rawPath"), http.get("path"), event.get("path")) if p is not None), None)
    if not isinstance(path, str):
        raise RequestError(400, "event.rawPath", "the event has no path", "send an event of payload format 2.0")
    stage = context.get("stage")
    if isinstance(stage, str) and f"{path}/".startswith(f"/{stage}/"):  # a named stage of API Gateway
        path = path.removeprefix(f"/{stage}")
    route = path.strip("/")
    if route not in PATHS:
        known = ", ".join(f"{method} /{name}" for name, method in PATHS.items())
        raise RequestError(404, "path", f"there is no {shown(path)}", f"ask for one of {known}")
    body = event.get("body")
    method = next((m for m in (http.get("method"), event.get("httpMethod")) if m is not None), PATHS[route])
    if not isinstance(method, str) or method.upper() != PATHS[route]:
        raise RequestError(405, "method", f"/{route} does not take {shown(method)}", f"use {PATHS[route]}")
    if route != "generate" or body is None or body == "":
        return Call(route or "page", {})
    return Call(route, parse(_bytes(body, event.get("isBase64Encoded", False))))


def _bytes(body: object, encoded: object) -> bytes:
    """The bytes of a body, whose size is looked at before anything else."""
    if not isinstance(body, str) or not isinstance(encoded, bool):
        raise RequestError(400, "body", "the event's body is not a text", "send an event of payload format 2.0")
    most = -(-MOST_BODY // 3) * 4 if encoded else MOST_BODY
    if len(body) <= most:
        try:
            data = base64.b64decode(body, validate=True) if encoded else body.encode()
        except (binascii.Error, ValueError):
            raise RequestError(400, "body", "the body is not what the event says it is", "send JSON in UTF-8") from None
        if len(data) <= MOST_BODY:
            return data
    raise RequestError(
        413, "body", f"the body is over {MOST_BODY} bytes", "send less: of a long prompt only the end is heard"
    )


def parse(data: bytes) -> dict[str, Any]:
    """The object in a JSON text of bounded size. Raises RequestError; refuses what JSON does not have."""
    hint = "send one JSON object in UTF-8"

    def constant(name: str) -> NoReturn:
        raise RequestError(400, "body", f"the body has {name}, which is no JSON", "send finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise RequestError(
                400, field_name(twice), f"the field {shown(twice)} is there twice", "send every field once"
            )
        return found

    try:
        fields = json.loads(data.decode(), parse_constant=constant, object_pairs_hook=unique)
    except RequestError:
        raise
    except RecursionError:
        raise RequestError(400, "body", "the body is nested too deeply", "a prompt is a list of lists") from None
    except ValueError:  # no UTF-8, no JSON, or a whole number of thousands of digits
        raise RequestError(400, "body", "the body is not JSON", hint) from None
    if not isinstance(fields, dict):
        raise RequestError(400, "body", f"the body is {shown(fields)}", hint)
    return fields


def field_name(name: object) -> str:
    """What an answer calls a field that it does not know: by its name if that is a short plain word, else the body."""
    plain = isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) <= 40
    return str(name) if plain else "body"


def refusal(error: RequestError) -> dict[str, Any]:
    """The answer to a request that is refused."""
    return {"error": str(error), "field": error.field, "hint": error.hint, "status": error.status}


def reply(event: object, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as the sender of `event` wants it: an HTTP response, or the object itself."""
    if not is_http(event):
        return answer
    body = dict(answer)
    status = body.pop("status", 200)
    headers = dict(HEADERS)
    if status == 405:
        headers["allow"] = str(answer["hint"]).removeprefix("use ")
    text = json.dumps(body, allow_nan=False, separators=(",", ":"))
    return {"statusCode": status, "headers": headers, "body": text, "isBase64Encoded": False}
