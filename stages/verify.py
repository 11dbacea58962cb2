"""Not a stage of the pipeline: measures lambda_pkg/function.zip under Lambda's conditions, into metrics/lambda.json.

`python -m stages.verify` does so on this machine, `python -m stages.verify NAME` on the deployed function of that name.
"""

import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from pianoai import params
from pianoai.packaging import DeployConfig
from pianoai.runtime.errors import InputError
from pianoai.stage import write_json
from pianoai.verification import aws, local
from pianoai.verification.limits import failures

ZIP, METRICS, CACHE = Path("lambda_pkg/function.zip"), Path("metrics/lambda.json"), Path(".cache")


def main(arguments: list[str]) -> int:
    """Measures and prints a table; 1 when a limit is broken, one line each."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clears up as after an interrupt
    try:
        config = params.read("deploy", DeployConfig)
        if arguments:
            figures = aws.verify(aws.lambda_client(), arguments[0], ZIP, config)
        else:
            CACHE.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="verify-", dir=CACHE) as work:
                figures = local.verify(ZIP, config, Path(work).resolve())
        write_json(METRICS, figures)
    except local.Skip as reason:
        print(f"make verify: SKIPPED, nothing was measured: {reason}")
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(table(figures))
    broken = failures(figures)
    for line in broken:
        print(f"error: {line}", file=sys.stderr)
    return 1 if broken else 0


def table(figures: dict[str, Any]) -> str:
    """The figures, one a line; what was not measured says so."""
    width = max(map(len, figures))
    return "\n".join(f"{key:{width}}  {'not measured' if value is None else value}" for key, value in figures.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
