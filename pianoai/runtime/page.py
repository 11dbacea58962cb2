"""The page that the function serves: one file, made by the stage `web`, which is read only when it is asked for."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

from pianoai.runtime.events import RequestError

GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")  # accepted, and not refused by a weight of 0


def reply(path: Path, event: dict[str, Any]) -> dict[str, Any]:
    """The HTTP response to an event that asks for the page: 304 where the browser has it, 308 to a path that ends in /.

    The file is JSON: headers, and the compressed page in base64. Raises RequestError where there is none.
    """
    context = event.get("requestContext")
    stage = context.get("stage") if isinstance(context, dict) else None
    if stage and event.get("rawPath", event.get("path")) == f"/{stage}":  # the page asks for what is beside it
        query = event.get("rawQueryString")
        location = f"/{stage}/" + (f"?{query}" if query else "")
        return {"statusCode": 308, "headers": {"location": location}, "body": "", "isBase64Encoded": False}
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        hint = "run `make repro`, whose stage web makes it, or ask for GET /health or POST /generate"
        raise RequestError(404, "path", "there is no page here", hint) from None
    headers, body = stored["headers"], stored["body"]
    sent = event.get("headers")
    asked = {str(name).lower(): str(value) for name, value in sent.items()} if isinstance(sent, dict) else {}
    if headers["etag"] in asked.get("if-none-match", ""):  # which may be a list, of tags that others made weak
        return {"statusCode": 304, "headers": headers, "body": "", "isBase64Encoded": False}
    if GZIP.search(asked.get("accept-encoding", "")):
        return {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}
    plain = {name: value for name, value in headers.items() if name != "content-encoding"}
    text = gzip.decompress(base64.b64decode(body)).decode()
    return {"statusCode": 200, "headers": plain, "body": text, "isBase64Encoded": False}
