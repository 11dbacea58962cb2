"""Stage `package`: the zip for AWS Lambda, and its sizes against the limits; and the model that pip installs."""

import shutil
from pathlib import Path

from pianoai import params
from pianoai.packaging import DeployConfig, build
from pianoai.stage import run, write_json

MODEL, PAGE, INSTALLED = Path("models/model.ts"), Path("pianoai/page.json"), Path("pianoai/model.ts")
ZIP, METRICS = Path("lambda_pkg/function.zip"), Path("metrics/package.json")


def main() -> None:
    """Builds the zip, writes its metrics, and copies the model."""
    sizes = build(MODEL, PAGE, ZIP, params.read("deploy", DeployConfig))
    write_json(METRICS, sizes)
    shutil.copyfile(MODEL, INSTALLED)
    print(f"{ZIP}: {sizes['zip_bytes']:,} bytes, {sizes['content_bytes']:,} unpacked")


if __name__ == "__main__":
    run(main, "package")
