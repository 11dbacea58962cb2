"""One HTML file that says, shows and plays what the pipeline made, and needs no network: python -m pianoai.report.

The stage `report` writes the body, which is the same for the same results; `make report` adds what was measured.
"""

import base64
import html
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from ruamel.yaml import YAML
from tqdm import tqdm

from pianoai import rendering
from pianoai.plots import curves, drawn, embedded, features
from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.summary import MODELS, on_lambda, read
from pianoai.verification.limits import PIECE, SPARE_MB, stale

BODY, REPORT = Path("plots/report.html"), Path("report.html")
LISTEN = Path("plots/listen.mp3")  # the first continuation of the model that was chosen
MARK = "<!--MEASURED-->"
HEARD = 2  # of the prompts: what is small enough to send
TRAINED = MODELS[1:]
NAMED = (  # what decides the bytes of data, models, pictures and sound
    "torch",
    "pytorch-lightning",
    "numpy",
    "pandas",
    "scikit-learn",
    "pypianoroll",
    "music21",
    "symusic",
    "matplotlib",
    "midirenderer",
    "soundfile",
    "pretty_midi",
    "dvc",
)
ROWS = {  # what of each model's metrics is in the table: where it stands, and how it is written
    "nll, validation": ("valid", "nll", "{:.3f}"),
    "nll, test": ("test", "nll", "{:.3f}"),
    "skill over copying": ("valid", "skill", "{:.3f}"),
    "F1 of sounding pitches": ("valid", "f1", "{:.3f}"),
    "F1 of onsets": ("valid", "onset_f1", "{:.3f}"),
    "overlap with real music": ("music", "overlap", "{:.3f}"),
    "Fréchet distance of bars": ("music", "frechet", "{:.2f}"),
    "memorised passages": ("music", "memorised", "{:.2%}"),
    "density beside real music's": ("stability", "density_ratio", "{:.2f}"),
    "stands still for over 4 beats": ("stability", "standstill", "{:.2%}"),
    "silent for over 4 beats": ("stability", "long_silence", "{:.2%}"),
    "parameters": ("complexity", "parameters", "{:,}"),
    "multiply-adds a frame": ("complexity", "multiply_adds", "{:,}"),
}
MEASURED = {  # what of metrics/lambda.json is in the table, where it was measured, and how it is written
    "measured on": ("measured_on", "{}"),
    "memory of the function, MB": ("memory_mb", "{}"),
    "cold start, seconds": ("init_seconds", "{:.2f}"),
    "start with its files cached, seconds": ("init_cached_seconds", "{:.2f}"),
    "cold start and one frame, seconds": ("cold_answer_seconds", "{:.2f}"),
    "a frame with Lambda's share of a CPU, ms": ("throttled_ms_per_frame", "{:.1f}"),
    "a frame with a whole CPU, ms": ("ms_per_frame", "{:.2f}"),
    f"{PIECE} beats with Lambda's share, seconds": (f"compose_{PIECE}_beats_seconds", "{:.1f}"),
    "the page with Lambda's share, seconds": ("page_seconds", "{:.2f}"),
    "resident, MB": ("resident_mb", "{:.1f}"),
    "peak with files in the page cache, MB": ("cgroup_peak_mb", "{:.1f}"),
    "most memory that Lambda saw used, MB": ("max_memory_used_mb", "{}"),
    f"survives with {SPARE_MB} MB less": ("survives_with_less", "{}"),
}
AGREEMENT = {  # of metrics/export.json
    "weights are stored as": ("weights", "{}"),
    "which costs, nats a frame": ("rounding_nll", "{:.6f}"),
    "frames of real music that probabilities were compared in": ("frames", "{:,}"),
    "largest difference, TorchScript": ("difference_torchscript", "{:.1e}"),
    "largest difference, NumPy runtime": ("difference_runtime", "{:.1e}"),
    "largest difference, NumPy runtime reading in chunks": ("difference_reading", "{:.1e}"),
    "frames drawn": ("frames_drawn", "{:,}"),
    "largest difference while drawing": ("difference_drawing", "{:.1e}"),
    "frames drawn with other notes": ("frames_different", "{}"),
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
FEATURES: dict[str, Any] = {
    "x": "value",
    "y": {f"plots/music/{name}.csv": "generated" for name in TRAINED},
    "y_label": "share",
}
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem }
img { max-width: 100%; background: #fff } h2 { margin-top: 2.5rem } audio { width: 100%; min-width: 12rem }
table { border-collapse: collapse } th, td { text-align: right; padding: .25rem .75rem; border-bottom: 1px solid #8885 }
th:first-child, td:first-child { text-align: left } .chosen { font-weight: 700 } figure { margin: 1rem 0 }
pre { overflow-x: auto; padding: 1rem; border: 1px solid #8885; font-size: .8rem }
.wide { overflow-x: auto; margin: 1rem 0 }
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
    try:
        parts = sections(root)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: not found; run `make repro` first") from None
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>PianoAI</title>'
    head += f"<style>{STYLE}</style>"
    return f"<!DOCTYPE html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def sections(root: Path) -> list[str]:
    """What is between the head and the end of a report."""
    metrics = {name: read(root / f"metrics/{name}.json") for name in MODELS}
    chosen = read(root / "metrics/selection.json")
    parameters = (root / "params.yaml").read_text("utf-8")
    values = YAML(typ="safe").load(parameters)
    per_beat = values["roll"]["frames_per_beat"]
    return [
        "<h1>PianoAI: the models, compared</h1>",
        f"<p>{text('Chosen: {winner}: {reason}.'.format(**chosen))} Scores are in nats a frame, lower is likelier. The"
        " test split is reported and was never chosen on.</p>",
        comparison(metrics, chosen["winner"]),
        "<p>Real music is what followed the prompts of the continuations; its overlap and distance are of every other"
        " passage against the rest, since passages differ as well.</p>",
        f"<h2>To hear</h2><p>The same prompt of {values['evaluate']['prompt'] / per_beat:g} beats, continued by the"
        " composer and by each model.</p>",
        listening(root),
        "<h2>To see</h2><p>The same prompts, and the line where they end.</p>",
        *(
            figure(
                (root / f"plots/samples/{name}-{number}.png").read_bytes(),
                f"{name}, prompt {number}: above the model, below the composer",
            )
            for number in range(1, HEARD + 1)
            for name in TRAINED
        ),
        "<h2>Training</h2>",
        *training(root),
        "<h2>What the music is like</h2><p>How often each value of six features occurs in the continuations of the"
        f" validation split's prompts, and in what really followed them. A beat has {per_beat} frames, and a bar four"
        " beats; a feature's last value stands for what is above it, too.</p>",
        figure(features(root, FEATURES), "features of continuations and of real music"),
        "<h2>How small it can be</h2>",
        figure(sizes(metrics), "Likelihood against parameters, of the models of this run"),
        figure(
            (root / "docs/grid.png").read_bytes(),
            "Not of this run: sizes of the Transformer on the default corpus (docs/results.md), likelihood against"
            " parameters, and against milliseconds a frame",
        ),
        "<h2>On a small function</h2>",
        MARK,
        "<h2>The music</h2>",
        data(root),
        "<h2>Parameters and versions</h2>",
        f"<details><summary>params.yaml</summary><pre>{text(parameters)}</pre></details>",
        table(versions(root), ["library", "version in requirements.lock"]),
    ]


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
    """The models side by side, the copy baseline first, and what real music has of the same."""
    of_music, of_stability = (metrics[winner][block] for block in ("music", "stability"))
    real = of_music["real"] | {key.removeprefix("real_"): of_stability[key] for key in of_stability if "real_" in key}
    rows = [
        [
            name,
            *(form.format(metrics[model][block][key]) for model in MODELS),
            form.format(real[key]) if key in real else "",
        ]
        for name, (block, key, form) in ROWS.items()
    ]
    return table(rows, ["", *MODELS, "real music"], 1 + MODELS.index(winner))


def sizes(metrics: dict[str, Any]) -> bytes:
    """A PNG: likelihood on the validation split against parameters, a point for each model."""
    mpl.use("Agg")
    graph, panel = plt.subplots(figsize=(9, 4), layout="constrained")
    points = [(blocks["complexity"]["parameters"], blocks["valid"]["nll"], name) for name, blocks in metrics.items()]
    for at, (parameters, nll, name) in enumerate(sorted(points)):  # sides alternate, since models may be alike
        panel.scatter(parameters, nll, color="#204a87")
        side = {"ha": "right", "xytext": (-8, 0)} if at % 2 else {"ha": "left", "xytext": (8, 0)}
        panel.annotate(f"{name} {nll:.3f}", (parameters, nll), textcoords="offset points", va="center", **side)
    panel.set(xscale="log", xlabel="parameters", ylabel="nats a frame, validation")
    panel.margins(0.2)
    panel.grid(alpha=0.3)
    return drawn(graph)


def listening(root: Path) -> str:
    """Some continuations as sound: those of the composer and of every model, a row for each prompt."""
    rows = []
    for number in range(1, HEARD + 1):
        cells = [f"<td>{number}</td>"]
        for name in tqdm(("real", *TRAINED), desc=f"rendering prompt {number}", unit="sample"):
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


def versions(root: Path) -> list[list[str]]:
    """The libraries NAMED with the versions that are pinned."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (root / "requirements.lock").read_text("utf-8"), re.M))
    return [[name, pinned[name]] for name in NAMED]


def measured(metrics: Path) -> str:
    """What the zip holds, and what running it and the stages cost; of another zip than this nothing is said."""
    package, agreement, timings = (read(metrics / f"{name}.json") for name in ("package", "export", "timings"))
    path = metrics / "lambda.json"
    found = read(path) if path.exists() else None
    weight = [
        [name, f"{package[key] / 1e6:.1f}"] for name, key in (("zip", "zip_bytes"), ("unpacked", "content_bytes"))
    ]
    spent = [[name, f"{cost['seconds']:.0f}", f"{cost['peak_mb']:,.0f}"] for name, cost in timings.items()]
    return "\n".join(
        [
            f"<p>{text(on_lambda(path, package))}.</p>",
            "" if found is None or stale(found, package) else table(listed(found, MEASURED), ["the function", ""]),
            table(weight, ["lambda_pkg/function.zip", "MB"]),
            "<p>What runs there beside PyTorch: probabilities of a frame's notes, and the notes drawn.</p>",
            table(listed(agreement, AGREEMENT), ["agreement", ""]),
            "<h2>What the stages took</h2><p>When each last ran.</p>",
            table(spent, ["stage", "seconds", "peak memory, MB"]),
        ]
    )


def listed(figures: dict[str, Any], rows: dict[str, tuple[str, str]]) -> list[list[str]]:
    """Rows of a table of figures, without those that were not measured."""
    written = {True: "yes", False: "no"}
    return [
        [name, written[value] if isinstance(value, bool) else form.format(value)]
        for name, (key, form) in rows.items()
        if (value := figures.get(key)) is not None
    ]


if __name__ == "__main__":
    sys.exit(main())
