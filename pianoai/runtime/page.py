"""The page that the function serves: one file, made by the stage `web`, which is read only when it is asked for."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from pianoai.runtime.events import RequestError


def reply(path: Path, event: dict[str, Any]) -> dict[str, Any]:
    """The HTTP response to an event that asks for the page, or 304 where the browser has it already.

    The file is JSON: headers, and the compressed page in base64. Raises RequestError where there is none.
    """
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        hint = "run `make repro`, whose stage web makes it, or ask for GET /health or POST /generate"
        raise RequestError(404, "path", "there is no page here", hint) from None
    headers, body = stored["headers"], stored["body"]
    sent = event.get("headers")
    asked = {str(name).lower(): str(value) for name, value in sent.items()} if isinstance(sent, dict) else {}
    if asked.get("if-none-match") == headers["etag"]:
        return {"statusCode": 304, "headers": headers, "body": "", "isBase64Encoded": False}
    if "gzip" in asked.get("accept-encoding", ""):
        return {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}
    plain = {name: value for name, value in headers.items() if name != "content-encoding"}
    text = gzip.decompress(base64.b64decode(body)).decode()
    return {"statusCode": 200, "headers": plain, "body": text, "isBase64Encoded": False}
