"""The report: what it says is what metrics say, nothing is fetched, and it is the same each time."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
from ruamel.yaml import YAML

from pianoai import report
from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import TICKS_PER_BEAT
from pianoai.summary import MODELS

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a browser would find: cells by row, addresses, headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.tags[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed results, and a small collection beside them."""
    folder = tmp_path_factory.mktemp("report")
    listed = subprocess.run(
        ["git", "ls-files", "metrics", "plots", "docs/grid.png", "params.yaml", "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "data").mkdir()
    rows = [["a", "a", "a", 0, 5, 48, 2, "00"], ["b", "b", "a", 5, 5, 48, 1, "00"]]
    columns = ["name", "group", "follows", "first", "notes", "ticks", "left_out", "checksum"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "data/pieces.csv", index=False)
    pd.DataFrame([["<c>", "has no notes"]], columns=["name", "reason"]).to_csv(folder / "data/skipped.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def body(root: Path) -> str:
    return report.body(root)


def test_the_numbers_are_those_of_the_metrics(root: Path, body: str) -> None:
    rows = {row[0]: row[1:] for row in Page(body).rows}
    metrics: dict[str, Any] = {
        name: json.loads((root / f"metrics/{name}.json").read_text()) for name in ("copy", "gan", "wgan", "transformer")
    }
    assert rows["nll, validation"] == [*(f"{found['valid']['nll']:.3f}" for found in metrics.values()), ""]
    assert rows["nll, test"] == [*(f"{found['test']['nll']:.3f}" for found in metrics.values()), ""]
    assert rows["parameters"] == [*(f"{found['complexity']['parameters']:,}" for found in metrics.values()), ""]
    music = [found["music"] for found in metrics.values()]
    music.append(music[0]["real"])
    assert rows["overlap with real music"] == [f"{found['overlap']:.3f}" for found in music]
    assert rows["memorised passages"] == [f"{100 * found['memorised']:.2f}%" for found in music]
    still = [found["stability"]["standstill"] for found in metrics.values()]
    still.append(metrics["copy"]["stability"]["real_standstill"])
    assert rows["stands still for over 4 beats"] == [f"{100 * share:.2f}%" for share in still]
    counted = json.loads((root / "metrics/data.json").read_text())
    assert rows["pieces"] == [str(counted[split]["pieces"]) for split in ("train", "valid", "test")]
    assert "2 pieces in 2 groups; 1 follow others that they are like. 3 notes were left out, and 1 pieces" in body
    assert rows["<c>"] == ["has no notes"]
    winner = json.loads((root / "metrics/selection.json").read_text())["winner"]
    assert f'<th class="chosen">{winner}</th>' in body


def test_it_holds_all_that_it_shows(body: str) -> None:
    page = Page(body)
    assert all(source.startswith(("data:image/png;base64,", "data:audio/mpeg;base64,")) for source in page.sources)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("audio") == 8
    assert all(f'alt="{name}, prompt {number}: ' in body for name in report.TRAINED for number in (1, 2))
    assert len(body) < 5_000_000
    assert str(ROOT) not in body


def test_what_is_heard_is_the_sample(root: Path, body: str) -> None:
    sources = re.findall(r'aria-label="prompt 1, then the composer" src="data:audio/mpeg;base64,([^"]+)"', body)
    assert len(sources) == 1
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sources[0])))
    notes, tempo = midi.read(root / "plots/samples/real-1.mid")
    seconds = (notes["start"] + notes["duration"]).max() / TICKS_PER_BEAT * 60 / tempo
    assert seconds <= len(samples) / rate <= seconds + 12  # strings ring on
    assert abs(samples).max() > 0.5


def test_the_curves_are_those_of_dvc() -> None:
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    known = {title: axes for plot in plots for title, axes in plot.items()}
    for title, axes in report.CURVES.items():
        assert known[title] == axes | {"template": known[title]["template"]}
    assert known["features of continuations and of real music"] == report.FEATURES | {"template": "features"}


def test_sizes_are_of_the_models_that_are_there(root: Path, body: str) -> None:
    metrics = {name: json.loads((root / f"metrics/{name}.json").read_text()) for name in MODELS}
    drawn = report.sizes(metrics)
    assert base64.b64encode(drawn).decode() in body
    metrics["gan"]["complexity"]["parameters"] *= 10
    assert report.sizes(metrics) != drawn
    assert "Not of this run: sizes of the Transformer on the default corpus" in body


def test_versions_are_those_of_the_lock(root: Path, tmp_path: Path) -> None:
    pinned = (root / "requirements.lock").read_text().splitlines()
    found = report.versions(root)
    assert {"torch", "matplotlib", "midirenderer", "soundfile", "pretty_midi"} <= {name for name, _ in found}
    assert all(f"{name}=={version}" in pinned for name, version in found)
    (tmp_path / "requirements.lock").write_text("\n".join(pinned).replace("numpy==", "numpy==9."))
    assert dict(report.versions(tmp_path))["numpy"] == f"9.{dict(found)['numpy']}"


def test_it_is_the_same_again_and_says_how_far_it_is(root: Path, body: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.body(root) == body
    assert "rendering prompt 2: 100%" in capsys.readouterr().err


def test_what_was_measured_is_added_and_only_for_this_zip(root: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    shutil.copytree(root / "metrics", metrics)
    package = json.loads((metrics / "package.json").read_text())
    figures = json.loads((metrics / "lambda.json").read_text())
    figures |= {"zip_sha256": package["zip_sha256"], "init_seconds": 0.875, "throttled_ms_per_frame": 17.2}
    (metrics / "lambda.json").write_text(json.dumps(figures))
    (metrics / "timings.json").write_text(json.dumps({"window": {"seconds": 1.26, "peak_mb": 234.5}}))
    said = report.measured(metrics)
    assert "starts in 0.88 s" in said
    assert "17 ms a frame of 125" in said
    rows = {row[0]: row[1:] for row in Page(said).rows}
    assert rows["measured on"] == [figures["measured_on"]]
    assert rows["cold start, seconds"] == ["0.88"]
    assert rows["a frame with Lambda's share of a CPU, ms"] == ["17.2"]
    assert rows["survives with 30 MB less"] == ["yes"]
    assert rows["zip"] == [f"{package['zip_bytes'] / 1e6:.1f}"]
    agreement = json.loads((metrics / "export.json").read_text())
    assert rows["largest difference, NumPy runtime"] == [f"{agreement['difference_runtime']:.1e}"]
    assert rows["window"] == ["1", "234"]
    (metrics / "lambda.json").write_text(json.dumps(figures | {"init_seconds": None}))
    assert "cold start, seconds" not in report.measured(metrics)
    (metrics / "lambda.json").write_text(json.dumps(figures | {"zip_sha256": "0"}))
    stale = report.measured(metrics)
    assert "measured on another zip: make verify" in stale
    assert "cold start, seconds" not in stale
    (metrics / "lambda.json").unlink()
    assert "not measured: make verify" in report.measured(metrics)


def test_the_command_puts_both_together(
    root: Path, body: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as stop:
        report.main()
    assert str(stop.value).startswith("error: plots/report.html: not found; run `make report`")
    (root / "plots/report.html").write_text(body)
    assert report.main() == 0
    assert capsys.readouterr().out.startswith("report.html: ")
    whole = (root / "report.html").read_text()
    assert report.MARK not in whole
    assert whole.replace(report.measured(Path("metrics")), report.MARK) == body


@pytest.mark.parametrize(
    "name",
    [
        "data/pieces.csv",
        "metrics/copy.json",
        "params.yaml",
        "plots/music/gan.csv",
        "plots/samples/gan-2.png",
        "requirements.lock",
    ],
)
def test_a_missing_result_is_named(root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "listening", lambda root: "")  # takes seconds
    with pytest.raises(InputError, match=rf"^{re.escape(name)}: not found; run `(make|dvc) repro`"):
        report.body(Path())
