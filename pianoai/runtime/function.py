"""The function: answers what Lambda hands over, or a server on this machine. docs/function.md has the contract."""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import pianoai
from pianoai.runtime import composing, events, model, page, requests

FOREVER = 1e9  # seconds, where nothing sets an end
FAILED = {
    "error": "the function failed",
    "field": "",
    "hint": "send the request again; if that does not help, see its log",
    "status": 500,
}


class Function:
    """A loaded model and a page; called with an event, it answers and prints one line of JSON, never the music.

    Raises InputError for a file that is no model. That the page's file is missing shows only when it is asked for.
    """

    def __init__(self, path: Path, page: Path) -> None:
        self.model = model.load(path)
        self.checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        self.page = page
        # What is planned now need not be later.
        self.model.read(np.zeros((self.model.metadata.read, 88), np.uint8), self.model.start())

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """The answer to a direct invocation or an HTTP event."""
        began = time.perf_counter()
        line: dict[str, Any] = {"route": None, "status": 200, "frames": 0, "seed": None}
        try:
            try:
                call = events.read_event(event)
                line["route"] = call.route
                if call.route == "page":
                    response = page.reply(self.page, event)
                    line["status"] = response["statusCode"]
                else:
                    answer = self.health(call.fields) if call.route == "health" else self.generate(call.fields, context)
                    pieces = answer.get("variations", [answer])
                    line |= {"frames": sum(piece.get("frames", 0) for piece in pieces), "seed": answer.get("seed")}
                    response = events.reply(event, answer)
            except events.RequestError as error:
                line |= {"status": error.status, "field": error.field}
                response = events.reply(event, events.refusal(error))
        except Exception as error:  # whatever it is, the caller gets JSON, and the log its place
            line |= {"status": 500, "exception": type(error).__name__, "at": place(error)}
            response = events.reply(event, FAILED)
        line["ms"] = round(1000 * (time.perf_counter() - began), 1)
        print(json.dumps(line), flush=True)
        return response

    def generate(self, fields: dict[str, Any], context: Any) -> dict[str, Any]:
        """The music that was asked for. Raises RequestError."""
        request = requests.read(fields, self.model.metadata, self.checksum)
        left = getattr(context, "get_remaining_time_in_millis", None)
        remaining = (lambda: left() / 1000) if left else lambda: FOREVER
        return composing.compose(self.model, self.checksum, request, remaining)

    def health(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What runs here and what it allows. Raises RequestError."""
        for name in fields:
            hint = "send the route alone"
            raise events.RequestError(400, "route", f"health takes no field, but got {name!r:.40}", hint)
        metadata = self.model.metadata
        return {
            "versions": {"pianoai": pianoai.__version__, "numpy": np.__version__, "python": sys.version.split()[0]},
            "model": {
                "sha256": self.checksum,
                "family": metadata.family,
                "parameters": metadata.parameters,
                "frames_per_beat": metadata.frames_per_beat,
                "window": metadata.window,
            },
            "limits": {"body_bytes": events.MOST_BODY} | requests.limits(metadata),
        }


def place(error: Exception) -> str:
    """The file and line where an exception was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
