"""The Lambda function for tests: loaded as Lambda loads it, asked as its callers ask it."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

from pianoai.runtime import model

HANDLER = Path(__file__).parents[1] / "lambda_pkg/handler.py"


def load_handler(path: Path, use: model.Model, script: Path = HANDLER) -> Any:
    """The handler as Lambda imports it, with `use` in place of the model in the file `path`, which it only hashes."""
    spec = importlib.util.spec_from_file_location("handler", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with (
        mock.patch.object(model, "load", lambda found: use if found == path else None),
        mock.patch.dict(os.environ, {} if path.parent == script.parent else {"PIANOAI_MODEL": str(path)}),
    ):
        spec.loader.exec_module(module)
    return module


def http(method: str, path: str, body: str | None = None, encoded: bool = False) -> dict[str, Any]:
    """An event of payload format 2.0, as function URLs and HTTP APIs send it."""
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
        "isBase64Encoded": encoded,
    }
    return event if body is None else event | {"body": body}


class Context:
    """Lambda's context with a clock that runs by a fixed time with every look at it."""

    def __init__(self, milliseconds: float, step: float) -> None:
        self.milliseconds, self.step = milliseconds, step

    def get_remaining_time_in_millis(self) -> float:
        self.milliseconds -= self.step
        return self.milliseconds


def ask(handler: Any, event: object, context: object = None) -> dict[str, Any]:
    """The answer, after JSON has carried it as Lambda does."""
    answer: dict[str, Any] = json.loads(json.dumps(handler.lambda_handler(event, context), allow_nan=False))
    return answer
