"""What 1,000 pieces of 32 beats cost on Lambda, from the seconds that were measured: python -m benchmarks.cost.

Prices in US dollars of the region us-east-1, as published in 2025 at https://aws.amazon.com/lambda/pricing. Left out:
the free tier (a million requests and 400,000 GB-seconds a month), cold starts, logs, and data that leaves AWS.
"""

import math
import sys
from pathlib import Path

from pianoai.runtime.errors import InputError
from pianoai.summary import read
from pianoai.verification.limits import stale

GB_SECOND = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
REQUEST = 0.20 / 1_000_000
MEMORY_GB = 128 / 1024
PIECES = 1_000
SECONDS = "compose_32_beats_seconds"  # in metrics/lambda.json: at 7.2 % of a CPU, without a cold start


def main() -> None:
    """Prints the arithmetic."""
    try:
        print(arithmetic(Path("metrics")))
    except InputError as error:
        sys.exit(f"error: {error}")


def arithmetic(metrics: Path) -> str:
    """A line for each architecture. Raises InputError for figures that are missing, or of another zip."""
    measured, package = read(metrics / "lambda.json"), read(metrics / "package.json")
    if stale(measured, package):
        raise InputError(f"{metrics / 'lambda.json'} was measured on another zip; run `make verify`")
    seconds = measured[SECONDS]
    other = "" if package["architecture"] == "arm64" else ", if as quick"
    return "\n".join(
        f"{PIECES:,} pieces on {name}: {PIECES:,} x ({billed(seconds):.3f} s x {MEMORY_GB} GB x {price:.10f} + "
        f"{REQUEST:.7f}) = {cost(PIECES, seconds, name):.4f} USD{other if name == 'arm64' else ''}"
        for name, price in GB_SECOND.items()
    )


def cost(pieces: int, seconds: float, architecture: str) -> float:
    """US dollars for `pieces` requests of `seconds` each."""
    return pieces * (billed(seconds) * MEMORY_GB * GB_SECOND[architecture] + REQUEST)


def billed(seconds: float) -> float:
    """Seconds rounded up to the whole millisecond, as AWS bills them."""
    return math.ceil(round(seconds * 1000, 6)) / 1000


if __name__ == "__main__":
    main()
