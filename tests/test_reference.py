"""The reference of parameters: what it says is what the code reads, and the page is up to date."""

import re
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pianoai import reference
from pianoai.params import bounded

ROOT = Path(__file__).parents[1]
VALUE = re.compile(r"^(\| `[\w.]+` \| )`[^`]*`", re.MULTILINE)


@dataclass(frozen=True)
class Inner:
    width: int = bounded(least=2)
    name: str = bounded()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    share: float = bounded(least=0.5, most=1000.0)
    kind: str = bounded(choices=("a", "b"))
    fast: bool = bounded()


def test_fields_say_what_is_allowed() -> None:
    assert reference.fields(Outer) == [
        ("share", "number, 0.5 to 1,000.0"),
        ("kind", "`a`, `b`"),
        ("fast", "true or false"),
        ("inner.width", "whole number, 2 or more"),
        ("inner.name", "text"),
    ]


def test_comments_belong_to_their_keys() -> None:
    text = "one:  # first\n  key: 1  # a key\n  two:\n    key: '#'  # another\nthree:\n  key: 2 # last\n"
    assert reference.comments(text) == {
        "one": "first",
        "one.key": "a key",
        "one.two": "",
        "one.two.key": "another",
        "three": "",
        "three.key": "last",
    }


def test_readers_are_the_stages_that_name_a_section() -> None:
    stages = {
        "get": {"params": ["data", "seed.one"]},
        "fit": {"foreach": {"x": {"section": "big"}, "y": {"section": "small"}}, "do": {"params": ["${item.section}"]}},
    }
    assert reference.readers(stages) == {
        "data": ["`get`"],
        "seed": ["`get`"],
        "big": ["`fit@x`"],
        "small": ["`fit@y`"],
    }


def test_the_page_is_up_to_date_and_whole() -> None:
    text = (ROOT / reference.PAGE).read_text("utf-8")
    # The values are those of params.yaml, which somebody may have changed for music of their own.
    assert re.sub(VALUE, r"\1", reference.page(ROOT)) == re.sub(VALUE, r"\1", text)
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    assert list(values) == list(reference.SECTIONS)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    keys = sum(len(section) + len(section.get("kaggle", [0])) - 1 for section in values.values())
    assert len(rows) == keys
    assert all(len(row.split(" | ")) == 4 and len(row.split(" | ")[3]) > 5 for row in rows)
