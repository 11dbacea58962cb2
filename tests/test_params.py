from dataclasses import dataclass
from pathlib import Path

import pytest

from pianoai import params
from pianoai.models import transformer
from pianoai.params import bounded
from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig
from pianoai.windows import RollConfig, SplitConfig, WindowConfig


@dataclass(frozen=True)
class Inner:
    rate: float = bounded(least=0, most=1)


@dataclass(frozen=True)
class Section:
    count: int = bounded(least=1)
    name: str = bounded(choices=("a", "b"))
    on: bool = bounded()
    inner: Inner = bounded()  # noqa: RUF009


GOOD = "section:\n  count: 2\n  name: b\n  on: true\n  inner:\n    rate: 1\n"


def read(tmp_path: Path, text: str) -> Section:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return params.read("section", Section, path)


def test_reads_typed_values(tmp_path: Path) -> None:
    section = read(tmp_path, GOOD)
    assert section == Section(2, "b", True, Inner(1.0))
    assert type(section.inner.rate) is float


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count: 2", "count: two", "section.count must be a whole number, not 'two'"),
        ("count: 2", "count: 2.0", "section.count must be a whole number, not 2.0"),
        ("count: 2", "count: true", "section.count must be a whole number, not True"),
        ("count: 2", "count: 0", "section.count must be at least 1, not 0"),
        ("rate: 1", "rate: 1.5", "section.inner.rate must be from 0 to 1, not 1.5"),
        ("rate: 1", "rate: .nan", "section.inner.rate must be from 0 to 1, not nan"),
        ("rate: 1", "rate: 1e-4x", "section.inner.rate must be a number, not '1e-4x'"),
        ("name: b", "name: c", "section.name must be one of a, b, not 'c'"),
        ("on: true", "on: 1", "section.on must be true or false, not 1"),
        ("  on: true\n", "", "section.on is missing"),
        ("on: true", "on: true\n  extra: 1", "section.extra is unknown; section has count, name, on, inner"),
        ("inner:\n    rate: 1", "inner: 3", "section.inner must be a section with keys, not 3"),
        ("section:", "sections:", "the section 'section' is missing"),
        ("count: 2", "count: [", "not valid YAML"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert message in str(caught.value)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace("rate: 1", "rate: 1e-4")).inner.rate == 0.0001


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    sizes = "embed_dim: 128, heads: 3, blocks: 1, feedforward: 8, head: nade, head_units: 8, recall_heads: 2"
    path.write_text(f"model: {{{sizes}, dropout: 0, learning_rate: 0.1}}")
    with pytest.raises(InputError, match=r"model.heads must divide model.embed_dim: 128 / 3"):
        params.read("model", transformer.Config, path)


def test_unknown_source() -> None:
    kaggle = {
        "handle": "a/b/versions/1",
        "file": "f.pk",
        "frames_per_beat": 24,
        "velocity_scale": 127.0,
        "seconds": 60.0,
    }
    values = {"source": "spotify", "folder": "x", "max_skipped": 0.1, "kaggle": kaggle}
    with pytest.raises(InputError, match=r"data.source must be one of corpus, folder, kaggle, not 'spotify'"):
        params.build("data", DataConfig, values, "params.yaml")


def test_frames_per_beat_must_divide_the_tick() -> None:
    with pytest.raises(InputError, match=r"roll.frames_per_beat must divide 24: 5"):
        params.build("roll", RollConfig, {"frames_per_beat": 5}, "params.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": 64, "segment": 64, "hop": 64}, "window.segment must be longer than window.length: 64 <= 64"),
        ({"length": 64, "segment": 128, "hop": 129}, "window.hop must not skip frames: 129 > window.segment 128"),
    ],
)
def test_window_lengths(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        params.build("window", WindowConfig, values, "params.yaml")


def test_the_repository_parameters_are_read_by_their_sections() -> None:
    assert params.read("split", SplitConfig).valid == pytest.approx(0.1)
