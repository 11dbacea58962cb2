"""Stage `report`: everything the pipeline made as one HTML file, but for what was measured."""

from pianoai.stage import run


def main() -> None:
    """Write plots/report.html."""
    from pathlib import Path

    from pianoai.report import BODY, body

    BODY.write_text(body(Path()), "utf-8")
    print(f"{BODY}: {BODY.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main, "report")
