"""The page of plots that needs no network, from this repository's own results."""

import base64
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from pianoai.plots import FEATURES, features, page
from pianoai.runtime.errors import InputError
from tests.imports import ROOT


def test_the_page_holds_every_plot_and_every_sample_and_asks_no_network() -> None:
    found = page(ROOT)
    listed = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    plots = {title: axes for plot in listed for title, axes in plot.items()}
    titles = re.findall("<h2>(.*?)</h2>", found)
    assert titles == [*plots, *(f"{name}: prompts and continuations" for name in ("gan", "transformer", "wgan"))]
    sources = re.findall(' src="(.*?)"', found)
    assert len(sources) == len(plots) + 9
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert all(picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82") for picture in pictures)
    assert (ROOT / "plots/samples/transformer-1.png").read_bytes() in pictures
    assert features(ROOT, plots["features of continuations and of real music"]) in pictures
    assert not re.search(r"https?:|//|<script|<link|@import|url\(", re.sub(' src="(.*?)"', "", found))
    assert page(ROOT) == found


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    with pytest.raises(InputError, match=r"plots/train/gan\.csv: not found; run `dvc repro`, which writes it"):
        page(tmp_path)


def test_features_are_drawn_from_their_tables_and_each_has_a_name(tmp_path: Path) -> None:
    axes = {"y": {f"plots/music/{name}.csv": "generated" for name in ("gan", "transformer")}, "y_label": "share"}
    shutil.copytree(ROOT / "plots/music", tmp_path / "plots/music")
    path = tmp_path / "plots/music/gan.csv"
    table = pd.read_csv(path)
    assert list(dict.fromkeys(table["feature"])) == list(FEATURES)
    drawn = features(tmp_path, axes)
    assert drawn == features(ROOT, axes)
    table.assign(generated=table["real"]).to_csv(path, index=False)
    assert features(tmp_path, axes) != drawn
    path.unlink()
    with pytest.raises(InputError, match=r"plots/music/gan\.csv: not found"):
        features(tmp_path, axes)
