"""Stage `web`: the page that the function serves."""

from pathlib import Path

from pianoai.stage import run
from pianoai.web import build

SOURCE, PAGE = Path("web"), Path("pianoai/page.json")


def main() -> None:
    """Bundles the page."""
    sizes = build(SOURCE, PAGE)
    print(f"{PAGE}: {sizes['page_bytes']:,} bytes, {sizes['compressed_bytes']:,} compressed")


if __name__ == "__main__":
    run(main, "web")
