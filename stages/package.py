"""Stage `package`: the zip for AWS Lambda, and its sizes against the limits."""

from pathlib import Path

from pianoai import params
from pianoai.packaging import DeployConfig, build
from pianoai.stage import run, write_json

MODEL, ZIP, METRICS = Path("models/model.ts"), Path("lambda_pkg/function.zip"), Path("metrics/package.json")


def main() -> None:
    """Builds the zip and writes its metrics."""
    sizes = build(MODEL, ZIP, params.read("deploy", DeployConfig))
    write_json(METRICS, sizes)
    print(f"{ZIP}: {sizes['zip_bytes']:,} bytes, {sizes['content_bytes']:,} unpacked")


if __name__ == "__main__":
    run(main, "package")
