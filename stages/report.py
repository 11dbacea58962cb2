"""Stage `report`: what the pipeline made as one HTML file, but for what was measured; and a sample to hear."""

from pianoai.stage import run


def main() -> None:
    """Write plots/report.html and plots/listen.mp3."""
    from pathlib import Path

    from pianoai.report import BODY, LISTEN, body, sample
    from pianoai.summary import read

    BODY.write_text(body(Path()), "utf-8")
    LISTEN.write_bytes(sample(Path(), read(Path("metrics/selection.json"))["winner"], 1))
    print(f"{BODY}: {BODY.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main, "report")
