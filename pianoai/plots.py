"""The plots of dvc.yaml and the pictures of samples as one page that needs no network: python -m pianoai.plots."""

import base64
import html
import io
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from ruamel.yaml import YAML

from pianoai.runtime.errors import InputError

PAGE = Path("plots/index.html")
FEATURES = {  # of `pianoai.metrics.music`, and what their values are
    "pitch_class": "pitch class, semitones above C",
    "pitch_range": "lowest to highest note of a bar, semitones",
    "polyphony": "notes that sound in a frame",
    "note_length": "length of a note, frames",
    "inter_onset": "from one onset to the next, frames",
    "onset_density": "notes struck in a beat",
}
STYLE = "body{font-family:sans-serif;margin:2em auto;max-width:62em}img{max-width:100%}h2{margin-top:2em}"


def main() -> int:
    """Write PAGE and print its name; exit code 1 where the pipeline has left nothing to draw."""
    try:
        PAGE.write_text(page(Path()), "utf-8")
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{PAGE}: open it with a browser")
    return 0


def page(root: Path) -> str:
    """The page of the project in `root`. Raises InputError where a table of a plot is missing."""
    parts = []
    for plot in YAML(typ="safe").load((root / "dvc.yaml").read_text("utf-8"))["plots"]:
        ((title, axes),) = plot.items()
        draw = features if axes["template"] == "features" else curves
        parts.append(section(title, [draw(root, axes)]))
    for name in sorted({path.stem.rpartition("-")[0] for path in (root / "plots/samples").glob("*.png")}):
        pictures = sorted((root / "plots/samples").glob(f"{name}-*.png"))
        parts.append(section(f"{name}: prompts and continuations", [path.read_bytes() for path in pictures]))
    head = f'<meta charset="utf-8"><title>PianoAI</title><style>{STYLE}</style>'
    return f"<!DOCTYPE html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def section(title: str, pictures: list[bytes]) -> str:
    """A heading and PNG pictures below it."""
    shown = "\n".join(embedded(each, title) for each in pictures)
    return f"<h2>{html.escape(title)}</h2>\n{shown}"


def embedded(png: bytes, shows: str) -> str:
    """A PNG as a part of a page, and what it shows in words."""
    return f'<img alt="{html.escape(shows)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'


def curves(root: Path, axes: dict[str, Any]) -> bytes:
    """A plot as a PNG: `x`, the columns to draw by table under `y`, `y_label`, as `dvc plots` reads them."""
    mpl.use("Agg")
    figure, panel = plt.subplots(figsize=(9, 4), layout="constrained")
    for name, columns in axes["y"].items():
        table = read(root, name)
        for column in [columns] if isinstance(columns, str) else columns:
            label = Path(name).stem + ("" if isinstance(columns, str) else f" {column}")
            panel.plot(table[axes["x"]], table[column], label=label, marker="." if len(table) < 20 else "")
    if axes["x"] == "epoch":
        panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set(xlabel=axes["x"], ylabel=textwrap.fill(axes["y_label"], 34))
    panel.grid(alpha=0.3)
    panel.legend()
    return drawn(figure)


def features(root: Path, axes: dict[str, Any]) -> bytes:
    """A PNG: a row for each feature, a column for each table under `y`; shares of continuations over real music's."""
    mpl.use("Agg")
    tables = {name: read(root, name) for name in axes["y"]}
    size = (4 * len(tables), 2.2 * len(FEATURES))
    figure, panels = plt.subplots(len(FEATURES), len(tables), figsize=size, layout="constrained", sharey="row")
    for row, (feature, values) in zip(panels, FEATURES.items(), strict=True):
        for panel, (name, table) in zip(row, tables.items(), strict=True):
            part = table[table["feature"] == feature]
            real = panel.bar(part["value"], part["real"], width=1.0, color="#bbbbbb")
            (line,) = panel.step(part["value"], part[axes["y"][name]], where="mid", color="#204a87")
            panel.set_xlabel(values)
            panel.xaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel(axes["y_label"])
    for panel, name in zip(panels[0], tables, strict=True):
        panel.set_title(Path(name).stem)
    figure.legend([real, line], ["real music", "continuations"], loc="outside upper center", ncols=2)
    return drawn(figure)


def read(root: Path, name: str) -> pd.DataFrame:
    """The table of a plot. Raises InputError where it is missing."""
    try:
        return pd.read_csv(root / name)
    except FileNotFoundError:
        raise InputError(f"{name}: not found; run `dvc repro`, which writes it") from None


def drawn(figure: Any) -> bytes:
    """A figure of Matplotlib as a PNG, the same for the same figure."""
    out = io.BytesIO()
    figure.savefig(out, dpi=90, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
