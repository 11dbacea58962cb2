"""Checksums of what a result depends on, so that results of other settings are not kept beside it."""

import hashlib
import json
from typing import Any

from ruamel.yaml import YAML

from pianoai import params

VERSION = 3  # of the code: one more whenever it trains another model from the same parameters and data
# One process on a CPU trains as it did before params.yaml could say anything else.
PLAIN = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}


def sections(*names: str) -> dict[str, dict[str, Any]]:
    """Sections of params.yaml without what a benchmark sets itself: the seed and the number of threads."""
    said = YAML(typ="safe").load(params.PARAMS.read_text("utf-8"))
    found = {name: said[name] for name in names}
    if "train" in found:
        found["train"] = {key: value for key, value in found["train"].items() if (key, value) not in PLAIN.items()}
        found["train"].pop("seed", None)
    found.get("determinism", {}).pop("threads", None)
    return found


def fingerprint(*values: Any) -> str:
    """The checksum of values that JSON can hold, and of the code's VERSION."""
    return hashlib.sha256(json.dumps([VERSION, *values], sort_keys=True).encode()).hexdigest()
