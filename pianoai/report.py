"""One HTML file that says, shows and plays what the pipeline made, and needs no network: python -m pianoai.report.

The stage `report` writes the body, which is the same for the same results; `make report` adds what was measured.
"""

import base64
import html
import importlib.metadata
import io
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from ruamel.yaml import YAML

from pianoai import rendering
from pianoai.plots import curves, embedded
from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.summary import MODELS, on_lambda, read

BODY, REPORT = Path("plots/report.html"), Path("report.html")
LISTEN = Path("plots/listen.mp3")  # the first continuation of the model that was chosen
MARK = "<!--MEASURED-->"
HEARD = 2  # of the prompts: what is small enough to send
TRAINED = MODELS[1:]
NAMED = ("torch", "pytorch-lightning", "numpy", "pandas", "scikit-learn", "pypianoroll", "music21", "symusic", "dvc")
ROWS = {  # what of each model's metrics is in the table: where it stands, and how it is written
    "nll, validation": ("valid", "nll", "{:.3f}"),
    "nll, test": ("test", "nll", "{:.3f}"),
    "skill over copying": ("valid", "skill", "{:.3f}"),
    "F1 of sounding pitches": ("valid", "f1", "{:.3f}"),
    "F1 of onsets": ("valid", "onset_f1", "{:.3f}"),
    "overlap with real music": ("music", "overlap", "{:.3f}"),
    "Fréchet distance of bars": ("music", "frechet", "{:.2f}"),
    "memorised passages, %": ("music", "memorised", "{:.2%}"),
    "density beside real music's": ("stability", "density_ratio", "{:.2f}"),
    "parameters": ("complexity", "parameters", "{:,}"),
    "multiply-adds a frame": ("complexity", "multiply_adds", "{:,}"),
}
# As in dvc.yaml, which cannot be a dependency.
CURVES: dict[str, dict[str, Any]] = {
    "likelihood while training": {
        "x": "epoch",
        "y": {f"plots/train/{name}.csv": "valid_nll" for name in TRAINED},
        "y_label": "nats a frame, validation",
    },
    "critic gap": {
        "x": "epoch",
        "y": {f"plots/train/{name}.csv": "train_gap" for name in ("gan", "wgan")},
        "y_label": "mean score of real less of drawn frames",
    },
    "mode coverage": {
        "x": "epoch",
        "y": {f"plots/train/{name}.csv": "valid_covered" for name in ("gan", "wgan")},
        "y_label": "share of the validation split's pitch-class sets that were drawn",
    },
    "precision and recall": {
        "x": "recall",
        "y": {f"plots/curves/{name}.csv": "precision" for name in MODELS},
        "y_label": "precision, sounding pitches, validation",
    },
}
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem }
img { max-width: 100%; background: #fff } h2 { margin-top: 2.5rem } audio { width: 100%; min-width: 12rem }
table { border-collapse: collapse } th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #8885 }
th:first-child, td:first-child { text-align: left } .chosen { font-weight: 700 } figure { margin: 1rem 0 }
pre { overflow-x: auto; padding: 1rem; border: 1px solid #8885; font-size: .8rem } .wide { overflow-x: auto }
"""


def main() -> int:
    """Put what was measured into the body, as REPORT; exit code 1 where the pipeline has not run."""
    try:
        REPORT.write_text(BODY.read_text("utf-8").replace(MARK, measured(Path("metrics"))), "utf-8")
    except FileNotFoundError:
        sys.exit(f"error: {BODY}: not found; run `make report`, whose stage report writes it")
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{REPORT}: {REPORT.stat().st_size / 1e6:.1f} MB; open it with a browser, or send it")
    return 0


def body(root: Path) -> str:
    """The report of the project in `root`, without what was measured. Raises InputError where something is missing."""
    metrics = {name: read(root / f"metrics/{name}.json") for name in MODELS}
    chosen = read(root / "metrics/selection.json")
    parameters = (root / "params.yaml").read_text("utf-8")
    values = YAML(typ="safe").load(parameters)
    beats = values["evaluate"]["prompt"] / values["roll"]["frames_per_beat"]
    parts = [
        "<h1>PianoAI: the models, compared</h1>",
        f"<p>{text('Chosen: {winner}: {reason}.'.format(**chosen))} Scores are in nats a frame, lower is likelier. The"
        " test split is reported and was never chosen on.</p>",
        comparison(metrics, chosen["winner"]),
        f"<h2>To hear</h2><p>The same prompt of {beats:g} beats, continued by the composer and by each model.</p>",
        listening(root),
        "<h2>To see</h2>",
        *(
            figure((root / f"plots/samples/{name}-1.png").read_bytes(), f"{name}: above the model, below the composer")
            for name in TRAINED
        ),
        "<h2>Training</h2>",
        *training(root),
        "<h2>What the music is like</h2><p>How often each value of six features occurs in the continuations of the"
        " validation split's prompts, and in what really followed them (grey).</p>",
        figure(features(root), "Features of continuations and of real music"),
        "<h2>How small it can be</h2>",
        figure(
            (root / "docs/grid.png").read_bytes(), "Likelihood against parameters, and against milliseconds a frame"
        ),
        "<h2>On a small function</h2>",
        MARK,
        "<h2>The music</h2>",
        data(root),
        "<h2>Parameters and versions</h2>",
        f"<details><summary>params.yaml</summary><pre>{text(parameters)}</pre></details>",
        table([[name, importlib.metadata.version(name)] for name in NAMED], ["library", "version"]),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>PianoAI</title>'
    head += f"<style>{STYLE}</style>"
    return f"<!DOCTYPE html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def text(content: str) -> str:
    """A text as HTML."""
    return html.escape(content)


def table(rows: list[list[str]], heads: list[str], chosen: int | None = None) -> str:
    """Rows of texts, the first of each being its name; one column may be marked."""

    def cells(tag: str, row: list[str]) -> str:
        marked = [' class="chosen"' if at == chosen else "" for at in range(len(row))]
        return "".join(f"<{tag}{mark}>{text(cell)}</{tag}>" for mark, cell in zip(marked, row, strict=True))

    lines = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells("th", heads)}</tr>\n{lines}</table></div>'


def figure(png: bytes, caption: str) -> str:
    """A PNG and what it shows."""
    return f"<figure>{embedded(png, caption)}<figcaption>{text(caption)}</figcaption></figure>"


def comparison(metrics: dict[str, Any], winner: str) -> str:
    """The models side by side, the copy baseline first."""
    rows = [
        [name, *(form.format(metrics[model][block][key]) for model in MODELS)]
        for name, (block, key, form) in ROWS.items()
    ]
    return table(rows, ["", *MODELS], 1 + MODELS.index(winner))


def listening(root: Path) -> str:
    """Some continuations as sound: those of the composer and of every model, a row for each prompt."""
    rows = []
    for number in range(1, HEARD + 1):
        cells = [f"<td>{number}</td>"]
        for name in ("real", *TRAINED):
            source = base64.b64encode(sample(root, name, number)).decode("ascii")
            label = f"prompt {number}, then {'the composer' if name == 'real' else name}"
            player = f'<audio controls preload="none" aria-label="{label}" src="data:audio/mpeg;base64,{source}">'
            cells.append(f"<td>{player}</audio></td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f"<th>{name}</th>" for name in ("prompt", "composer", *TRAINED))
    return f'<div class="wide"><table><tr>{heads}</tr>\n' + "\n".join(rows) + "</table></div>"


def sample(root: Path, name: str, number: int) -> bytes:
    """A prompt and how a model, or for `real` the composer, goes on, as MP3."""
    notes, tempo = midi.read(root / f"plots/samples/{name}-{number}.mid")
    return rendering.mp3(rendering.sound(notes, tempo))


def training(root: Path) -> list[str]:
    """Some of the plots of dvc.yaml."""
    return [figure(curves(root, axes), title) for title, axes in CURVES.items()]


def features(root: Path) -> bytes:
    """A PNG: a row for each feature, a column for each model; shares of continuations over those of real music."""
    mpl.use("Agg")
    tables = {name: pd.read_csv(root / f"plots/music/{name}.csv") for name in TRAINED}
    names = list(dict.fromkeys(tables[TRAINED[0]]["feature"]))
    size = (11, 2.1 * len(names))
    grid, panels = plt.subplots(len(names), len(TRAINED), figsize=size, layout="constrained", sharey="row")
    for row, feature in zip(panels, names, strict=True):
        for panel, (model, found) in zip(row, tables.items(), strict=True):
            part = found[found["feature"] == feature]
            panel.bar(part["value"], part["real"], width=1.0, color="#bbbbbb")
            panel.step(part["value"], part["generated"], where="mid", color="#204a87")
            panel.set_title(f"{model}: {feature.replace('_', ' ')}", fontsize=9, loc="left")
            panel.tick_params(labelsize=7)
    out = io.BytesIO()
    grid.savefig(out, dpi=80, metadata={"Software": None})
    plt.close(grid)
    return out.getvalue()


def data(root: Path) -> str:
    """How much music there is in each split, what was left out, and what was skipped."""
    splits = read(root / "metrics/data.json")
    keys = list(splits["train"])
    rows = [
        [key.replace("_", " "), *(f"{splits[split][key]:,}" for split in ("train", "valid", "test"))] for key in keys
    ]
    pieces, skipped = (pd.read_csv(root / f"data/{name}.csv") for name in ("pieces", "skipped"))
    moved = int((pieces["follows"] != pieces["group"]).sum())
    said = (
        f"{len(pieces):,} pieces in {pieces['group'].nunique():,} groups; {moved} follow others that they are like."
        f" {int(pieces['left_out'].sum()):,} notes were left out, and {len(skipped):,} pieces were skipped."
    )
    listed = table(skipped.astype(str).to_numpy().tolist(), ["skipped", "why"]) if len(skipped) else ""
    return table(rows, ["", "train", "validation", "test"]) + f"<p>{said}</p>{listed}"


def measured(metrics: Path) -> str:
    """What running the zip and the stages cost, as HTML; a sentence where nobody has measured this zip."""
    package, timings = read(metrics / "package.json"), read(metrics / "timings.json")
    said = on_lambda(metrics / "lambda.json", package)
    rows = [[name, f"{cost['seconds']:.0f}", f"{cost['peak_mb']:,.0f}"] for name, cost in timings.items()]
    return f"<p>{text(said)}.</p>" + table(rows, ["stage", "seconds", "peak memory, MB"])


if __name__ == "__main__":
    sys.exit(main())
