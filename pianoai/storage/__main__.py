"""Runs DVC with settings for storage, and says what to do when that fails.

python -m pianoai.storage push                as `dvc push`; likewise pull, fetch, exp push, exp pull and all else
"""

import logging
import sys
from typing import Any

from pianoai.storage.advice import advice, set_up_client


def main(arguments: list[str]) -> int:
    """Run `dvc` with these arguments, and return its exit code."""
    set_up_client()
    from dvc.cli import main as dvc

    errors = record_errors()
    code = int(dvc(arguments))
    if code:
        for line in advice("\n".join(errors)):
            print(f"error: {line}", file=sys.stderr)
    return code


def record_errors() -> list[str]:
    """A list that grows by the text of every error that is logged from now on, with those of its exception's causes."""
    errors: list[str] = []
    usual = logging.getLogRecordFactory()

    def make(*given: Any, **named: Any) -> logging.LogRecord:
        record = usual(*given, **named)
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
            error = record.exc_info[1] if record.exc_info else None
            while error is not None:
                errors.append(f"{type(error).__name__}: {error}")
                error = error.__cause__
        return record

    logging.setLogRecordFactory(make)
    return errors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
