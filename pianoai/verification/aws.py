"""Measures a function that is deployed on AWS, by the REPORT lines that Lambda writes after each call."""

import base64
import hashlib
import io
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pianoai.packaging import DeployConfig
from pianoai.runtime.errors import InputError
from pianoai.verification.limits import PIECE
from pianoai.verification.local import LONG, SEED, SHORT, frames_per_beat

REPEATS = 3


@dataclass(frozen=True)
class Report:
    """What a REPORT line says: milliseconds, and MB of 2^20 bytes. `init_ms` is there for cold starts alone."""

    duration_ms: float
    billed_ms: float
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None


def parse_report(log: str) -> Report:
    """The REPORT line of a log in Lambda's text format. Raises InputError when there is none, or it tells of a failure.

    The format: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
    """
    line = next((line for line in log.splitlines() if line.startswith("REPORT ")), None)
    if line is None:
        raise InputError("the log has no REPORT line; set the function's log format to text")
    fields = dict(part.split(": ", 1) for part in line.removeprefix("REPORT ").split("\t") if ": " in part)
    if "Status" in fields and fields["Status"].strip() != "success":
        raise InputError(f"Lambda reports {fields['Status'].strip()}: {fields.get('Error Type', 'no type').strip()}")

    def number(key: str) -> float:
        found = re.fullmatch(r"([\d.]+) (ms|MB)", fields.get(key, "").strip())
        if found is None:
            raise InputError(f"the REPORT line has no {key}: {line}")
        return float(found[1])

    return Report(
        duration_ms=number("Duration"),
        billed_ms=number("Billed Duration"),
        memory_mb=int(number("Memory Size")),
        max_memory_mb=int(number("Max Memory Used")),
        init_ms=number("Init Duration") if "Init Duration" in fields else None,
    )


def lambda_client() -> Any:
    """A client for Lambda with the credentials and region of the environment. Raises InputError without a region."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        return botocore.session.get_session().create_client("lambda")
    except BotoCoreError as error:
        raise InputError(f"AWS: {error}") from None


def verify(client: Any, name: str, archive: Path, config: DeployConfig) -> dict[str, Any]:
    """What the function `name` takes, as `verification.local` says it. Nothing about the function is changed.

    A start is measured only when the first call meets one, as after an update. Raises InputError when the
    function is not there, runs another zip or with other memory, or fails.
    """
    try:
        data = archive.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{archive}: no such file; run `make repro` first") from None
    found = call(client.get_function_configuration, FunctionName=name)
    if found["CodeSha256"] != base64.b64encode(hashlib.sha256(data).digest()).decode():
        raise InputError(f"{name} does not run {archive}: update its code first")
    if found["MemorySize"] != config.memory_mb:
        raise InputError(f"{name} has {found['MemorySize']} MB, and deploy.memory_mb is {config.memory_mb}")
    beat = frames_per_beat(io.BytesIO(data))
    reports = [invoke(client, name, 1)]
    costs, pieces = [], []
    for _ in range(REPEATS):
        short, long, piece = (invoke(client, name, frames) for frames in (SHORT, LONG, PIECE * beat))
        costs.append((long.duration_ms - short.duration_ms) / (LONG - SHORT))
        pieces.append(piece.duration_ms / 1000)
        reports += [short, long, piece]
    init = reports[0].init_ms
    return {
        "measured_on": f"AWS Lambda, {found['Runtime']}",
        "zip_sha256": hashlib.sha256(data).hexdigest(),
        "zip_bytes": len(data),
        "memory_mb": config.memory_mb,
        "frames_per_beat": beat,
        "init_seconds": None if init is None else round(init / 1000, 3),
        "throttled_ms_per_frame": round(statistics.median(costs), 3),
        f"compose_{PIECE}_beats_seconds": round(statistics.median(pieces), 3),
        "max_memory_used_mb": max(report.max_memory_mb for report in reports),
        "billed_seconds": round(sum(report.billed_ms for report in reports) / 1000, 3),
        "resident_mb": None,
    }


def invoke(client: Any, name: str, frames: int) -> Report:
    """Ask for so many frames and read the report. Raises InputError when the function fails."""
    event = {"frames": frames, "seed": SEED, "temperature": 0.9}
    done = call(client.invoke, FunctionName=name, LogType="Tail", Payload=json.dumps(event).encode())
    answer = json.loads(done["Payload"].read())
    if "FunctionError" in done or not isinstance(answer, dict) or "error" in answer or answer.get("frames") != frames:
        raise InputError(f"{name} did not compose {frames} frames: {str(answer)[:200]}")
    return parse_report(base64.b64decode(done["LogResult"]).decode("utf-8", "replace"))


def call(method: Any, **arguments: Any) -> Any:
    """A call to AWS; what it refuses ends in InputError with its own words."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return method(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise InputError(f"AWS: {error}") from None
