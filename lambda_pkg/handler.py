"""The Lambda function: continues a prompt. README.md has the contract; the model is loaded as Lambda starts up."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# A fourteenth of a processor does not work faster in two threads; this must be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import pianoai
from pianoai.runtime import composing, events, model, requests

PATH = Path(os.environ.get("PIANOAI_MODEL") or Path(__file__).with_name("model.ts"))
MODEL = model.load(PATH)
CHECKSUM = hashlib.sha256(PATH.read_bytes()).hexdigest()
MODEL.read(np.zeros((MODEL.metadata.read, 88), np.uint8), MODEL.start())  # what is planned now need not be later
FOREVER = 1e9  # seconds, where nothing sets an end
FAILED = {
    "error": "the function failed",
    "field": "",
    "hint": "send the request again; if that does not help, see its log",
    "status": 500,
}


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """The answer to a direct invocation or an HTTP event; prints one line of JSON about it, never the music."""
    began = time.perf_counter()
    line: dict[str, Any] = {"route": None, "status": 200, "frames": 0, "seed": None}
    try:
        try:
            call = events.read_event(event)
            line["route"] = call.route
            answer = health(call.fields) if call.route == "health" else generate(call.fields, context)
            pieces = answer.get("variations", [answer])
            line |= {"frames": sum(piece.get("frames", 0) for piece in pieces), "seed": answer.get("seed")}
        except events.RequestError as error:
            answer = events.refusal(error)
            line |= {"status": error.status, "field": error.field}
        response = events.reply(event, answer)
    except Exception as error:  # whatever it is, the caller gets JSON, and the log its place
        line |= {"status": 500, "exception": type(error).__name__, "at": place(error)}
        response = events.reply(event, FAILED)
    line["ms"] = round(1000 * (time.perf_counter() - began), 1)
    print(json.dumps(line), flush=True)
    return response


def place(error: Exception) -> str:
    """The file and line where an exception was raised."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""


def generate(fields: dict[str, Any], context: Any) -> dict[str, Any]:
    """The music that was asked for. Raises RequestError."""
    request = requests.read(fields, MODEL.metadata, CHECKSUM)
    left = getattr(context, "get_remaining_time_in_millis", None)
    return composing.compose(MODEL, CHECKSUM, request, (lambda: left() / 1000) if left else lambda: FOREVER)


def health(fields: dict[str, Any]) -> dict[str, Any]:
    """What runs here and what it allows. Raises RequestError."""
    for name in fields:
        raise events.RequestError(400, "route", f"health takes no field, but got {name!r:.40}", "send the route alone")
    metadata = MODEL.metadata
    return {
        "versions": {"pianoai": pianoai.__version__, "numpy": np.__version__, "python": sys.version.split()[0]},
        "model": {
            "sha256": CHECKSUM,
            "family": metadata.family,
            "parameters": metadata.parameters,
            "frames_per_beat": metadata.frames_per_beat,
            "window": metadata.window,
        },
        "limits": {"body_bytes": events.MOST_BODY} | requests.limits(metadata),
    }
