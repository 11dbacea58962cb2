"""The page of plots that needs no network, from this repository's own results."""

import base64
import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pianoai.plots import page
from pianoai.runtime.errors import InputError
from tests.imports import ROOT


def test_the_page_holds_every_plot_and_every_sample_and_asks_no_network() -> None:
    found = page(ROOT)
    plots = [title for plot in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"] for title in plot]
    titles = re.findall("<h2>(.*?)</h2>", found)
    assert titles == [*plots, *(f"{name}: prompts and continuations" for name in ("gan", "transformer", "wgan"))]
    sources = re.findall(' src="(.*?)"', found)
    assert len(sources) == len(plots) + 9
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]
    assert all(picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82") for picture in pictures)
    assert (ROOT / "plots/samples/transformer-1.png").read_bytes() in pictures
    assert not re.search(r"https?:|//|<script|<link|@import|url\(", re.sub(' src="(.*?)"', "", found))
    assert page(ROOT) == found


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    with pytest.raises(InputError, match=r"plots/train/gan\.csv: not found; run `dvc repro`, which writes it"):
        page(tmp_path)
