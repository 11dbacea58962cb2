"""dvc.yaml against the code it runs, and the whole pipeline on a few real chorales in a temporary repository."""

import csv
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from joblib import effective_n_jobs
from music21.common import getCorpusFilePath
from nbclient import NotebookClient
from ruamel.yaml import YAML

from pianoai.runtime import midi
from pianoai.runtime import model as runtime
from pianoai.sources import Piece
from pianoai.storage import server as s3
from tests.imports import OTHERWISE, ROOT, UNREAD, attributes, environment, has_code, imported, record
from tests.kaggle_here import roll_of, serving
from tests.test_determinism import HOSTILE
from tests.test_documented import of_pages

DATA = re.compile(r"(data|metrics|models)/|lambda_pkg/")
RESULTS = r"(metrics|plots)/|dvc\.lock|pianoai/(model\.ts|page\.json)"
TRAINED = ("gan", "wgan", "transformer")


def stages(root: Path = ROOT) -> dict[str, Any]:
    """The stages of dvc.yaml as DVC expands them, by name."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return {
            stage.name: {
                "deps": {dep.def_path for dep in stage.deps if not hasattr(dep, "params")},
                "params": {key for dep in stage.deps if hasattr(dep, "params") for key in dep.params},
                "cmd": stage.cmd,
                "desc": stage.desc,
            }
            for stage in repo.index.stages
        }


@pytest.fixture(scope="module")
def expanded() -> dict[str, Any]:
    return stages()


def test_every_stage_is_there_and_described(expanded: dict[str, Any]) -> None:
    assert all(stage["desc"] for stage in expanded.values())
    single = {"download", "window", "baseline", "select", "export", "web", "package", "report"}
    assert set(expanded) == single | {f"{stage}@{name}" for stage in ("train", "evaluate") for name in TRAINED}


def test_deps_are_exactly_the_modules_a_stage_imports(expanded: dict[str, Any]) -> None:
    for address, stage in expanded.items():
        name, _, item = address.partition("@")
        code = code_of(stage)
        wanted = imported(name, "copy" if name == "baseline" else item or None)
        if name == "package":  # what it ships counts as well
            shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pianoai/runtime").rglob("*.py")}
            wanted |= shipped | {"pianoai/__init__.py"}
        assert code == wanted, address


def keys_of(params: set[str]) -> set[str]:
    """The keys of params.yaml that some sections and keys of it are, as section.key."""
    document = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    found: set[str] = set()
    for name in params:
        value = document
        for part in name.split("."):
            value = value[part]
        found |= keys_of({f"{name}.{key}" for key in value}) if isinstance(value, dict) else {name}
    return found


def code_of(stage: dict[str, Any]) -> set[str]:
    """The modules among what a stage depends on."""
    return {dep for dep in stage["deps"] if dep.endswith(".py") and not DATA.match(dep)}


def test_params_are_exactly_the_sections_a_stage_reads(expanded: dict[str, Any]) -> None:
    from stages.train import SECTIONS

    for address, stage in expanded.items():
        name, _, item = address.partition("@")
        text = (ROOT / f"stages/{name}.py").read_text("utf-8")
        read = {"determinism"} | set(re.findall(r'params\.read\("(\w+)"', text))  # `stage.run` reads that one
        if "params.read(section" in text:
            read.add(SECTIONS[item])
        assert {key.partition(".")[0] for key in stage["params"]} == read, address
        assert stage["cmd"] == f"python -m stages.{name}" + (f" {item}" if item else "")


def test_the_code_of_a_stage_reads_every_key_that_re_runs_it(expanded: dict[str, Any]) -> None:
    for address, stage in expanded.items():
        read = attributes(code_of(stage))
        assert {key for key in keys_of(stage["params"]) if key.rpartition(".")[2] not in read} == set(), address


def test_every_key_of_params_is_used_and_explained(expanded: dict[str, Any]) -> None:
    text = (ROOT / "params.yaml").read_text("utf-8")
    used = set.union(*(keys_of(stage["params"]) for stage in expanded.values()))
    # `make verify` reads that one, which is no stage.
    assert keys_of(set(YAML(typ="safe").load(text))) - used == {"deploy.memory_mb"}
    for line in text.splitlines():
        if re.match(r" +\w+: ", line):
            assert " # " in line, f"params.yaml: no comment: {line.strip()}"


class Project:
    """A copy of this repository's files, committed in a repository of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables: dict[str, str] = {}  # of the environment, besides the tests' own

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command there; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *command] if command[0] == "dvc" else command,
            cwd=self.root,
            env=environment() | self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) is fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def ran(self, *command: str) -> list[str]:
        """The stages that a DVC command ran."""
        return re.findall(r"Running stage '([^']+)'", self.run(*command))

    def metrics(self, name: str) -> Any:
        return json.loads((self.root / f"metrics/{name}.json").read_text("utf-8"))


def copy_files(target: Path) -> None:
    """Copy what git knows or would take of this repository, but for results."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not re.match(rf"{RESULTS}|data/folder/[^.]", name) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def test_the_committed_lock_is_not_stale(tmp_path: Path) -> None:
    """In a copy with the committed results and no data, so that an experiment in this folder does not matter."""
    copy_files(tmp_path)
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(re.compile(RESULTS).match, listed.stdout.splitlines()):
        committed = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, check=True)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(committed.stdout)
    copy = Project(tmp_path)
    copy.run("git", "init", "-q")
    printed = copy.run("dvc", "repro", "--dry", "--allow-missing")
    assert "Stage 'package' didn't change" in printed
    assert "Running stage" not in printed, printed


TINY = {
    "data": {"source": "folder"},
    "window": {"length": 16, "segment": 64, "hop": 64},
    "split": {"valid": 0.25, "test": 0.125},
    "train": {"epochs": 2, "batch": 4, "warmup": 2},
    "model": {"embed_dim": 24, "heads": 4, "blocks": 1, "feedforward": 32, "head_units": 8, "recall_heads": 3},
    "gan": {"width": 24, "latent": 4, "critic_width": 8},
    "wgan": {"width": 24, "latent": 4, "critic_width": 8},
    "evaluate": {"noise_samples": 2, "rollouts": 3, "frames": 32, "prompt": 16, "temperature": 1.0},
    "select": {
        "min_skill": -1000.0,
        "max_density_change": 1000.0,
        "max_standstill": 1.0,
        "min_overlap": 0.0,
        "max_memorised": 1.0,
    },
    "export": {"windows": 8, "frames": 32},
}


def committed(root: Path, pieces: list[Piece]) -> Project:
    """A project whose files are there, with pieces as MIDI files in its folder of music: all of it committed to git."""
    for piece in pieces:
        (root / f"data/folder/{piece.name.replace('/', '-')}.mid").write_bytes(midi.write(piece.notes))
    found = Project(root)
    for command in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "tester"),
        ("config", "user.email", "tester@localhost"),
        ("add", "-A"),
        ("commit", "-qm", "tiny"),
    ):
        found.run("git", *command)
    return found


@pytest.fixture(scope="module")
def project(chorales: list[Piece], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pipeline after its first run, on eight chorales, one of them in MusicXML, and with tiny models."""
    root = tmp_path_factory.mktemp("project")
    copy_files(root)
    for name in ("wheels", "web"):
        if (ROOT / ".cache" / name).is_dir():
            shutil.copytree(ROOT / ".cache" / name, root / ".cache" / name, symlinks=True)
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    for section, values in TINY.items():
        params[section].update(values)
    yaml.dump(params, root / "params.yaml")
    score = Path(getCorpusFilePath()) / f"{chorales[0].name}.mxl"
    shutil.copyfile(score, root / f"data/folder/{score.name}")
    found = committed(root, chorales[1:])
    found.variables = record(root.with_name(f"{root.name}-imports"))
    order = found.ran("dvc", "repro")
    found.variables = {}
    assert sorted(order) == sorted(stages(root))
    found.run("git", "add", "-A")
    found.run("git", "commit", "-qm", "run")
    return found


@pytest.mark.slow
def test_deps_and_params_are_what_a_run_imports_and_reads(project: Project) -> None:
    """Of each stage, and of each item of a stage that there are several of, as it ended."""

    def counts(name: str) -> bool:
        return not name.endswith("__init__.py") or has_code(ROOT / name)

    for address, stage in stages(project.root).items():
        name = address.partition("@")[0]
        path = project.root.with_name(f"{project.root.name}-imports") / f"{address}.json"
        found = json.loads(path.read_text("utf-8"))
        read = {key for key in found["keys"] if key in keys_of({key.partition(".")[0]})}
        assert read <= keys_of(stage["params"]), address
        unread = keys_of(stage["params"]) - read
        assert {key for key in unread if not re.fullmatch(UNREAD.get(name, ""), key)} == set(), address
        assert {key.partition(".")[0] for key in found["keys"]} == {key.partition(".")[0] for key in stage["params"]}
        ran = set(filter(counts, found["files"]))
        code = set(filter(counts, code_of(stage)))
        if name == "package":  # what it ships it reads, and does not import
            code = {dep for dep in code if not dep.startswith("pianoai/runtime/")} | ran
        assert ran <= code, address
        assert code - ran <= OTHERWISE.get(name, set()), address


@pytest.mark.slow
def test_the_pipeline_ends_with_a_zip_that_holds_the_model(project: Project) -> None:
    with zipfile.ZipFile(project.root / "lambda_pkg/function.zip") as archive:
        assert archive.read("model.ts") == (project.root / "models/model.ts").read_bytes()
        assert archive.read("page.json") == (project.root / "pianoai/page.json").read_bytes()
    assert (project.root / "pianoai/model.ts").read_bytes() == (project.root / "models/model.ts").read_bytes()
    with zipfile.ZipFile(project.root / "lambda_pkg/function.zip") as archive:
        assert "handler.py" in archive.namelist()
    shipped = runtime.load(project.root / "models/model.ts")
    winner = project.metrics("selection")["winner"]
    assert shipped.metadata.family == winner
    assert shipped.metadata.parameters == project.metrics(winner)["complexity"]["parameters"]
    assert project.metrics("export")["difference_runtime"] <= 1e-5
    assert (project.root / "data/skipped.csv").read_text() == "name,reason\n"
    assert set(project.metrics("timings")) == set(stages(project.root))
    for name in TRAINED:
        for number in (1, 2, 3):
            assert (project.root / f"plots/samples/{name}-{number}.png").read_bytes().startswith(b"\x89PNG")
            notes, _ = midi.read(project.root / f"plots/samples/{name}-{number}.mid")
            assert len(notes)


@pytest.mark.slow
def test_the_table_at_the_end(project: Project) -> None:
    table = project.run(sys.executable, "-m", "pianoai.summary")
    assert f"Chosen: {project.metrics('selection')['winner']}: " in table
    for name in ("copy", *TRAINED):
        assert f"{project.metrics(name)['valid']['nll']:.3f}" in table
    assert f"{project.metrics('package')['zip_bytes'] / 1e6:.1f} MB" in table


@pytest.mark.slow
def test_artifacts_are_what_was_chosen_and_exported(project: Project, tmp_path: Path) -> None:
    for name, path in {"selected": "models/selected.pt", "exported": "models/model.ts"}.items():
        project.run("git", "tag", "-a", f"{name}@v1.0.0", "-m", "the first")
        project.run("dvc", "artifacts", "get", ".", name, "-o", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == (project.root / path).read_bytes()


@pytest.mark.slow
def test_plots_are_drawn_with_their_templates_and_show_the_samples(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "plots", "show", "-o", str(tmp_path))
    assert len(list((tmp_path / "static").glob("*.png"))) == 3 * len(TRAINED)
    page = (tmp_path / "index.html").read_text("utf-8")
    for plot in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]:
        assert all(title in page for title in plot)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explore", "train", "evaluate"])
def test_notebooks_run_from_their_first_cell_to_their_last(
    name: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    folder = project.root / "notebooks"
    book = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)  # as they are in git
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert {"explore": "text/html", "train": "image/png", "evaluate": "image/png"}[name] in kinds
    if name != "train":
        shown = json.dumps([cell.outputs for cell in cells])
        assert "<audio" in shown
    assert project.run("git", "status", "--short") == ""


@pytest.mark.slow
def test_no_output_names_a_path_or_changes_when_run_again(project: Project) -> None:
    before = (project.root / "dvc.lock").read_bytes()
    began = time.monotonic()
    assert project.ran("dvc", "repro") == []
    assert time.monotonic() - began < 60  # the target of 5 s is measured on an idle machine
    forced = project.ran("dvc", "repro", "--force", "--single-item", "window", "train@transformer", "export")
    assert forced == ["window", "train@transformer", "export"]
    assert (project.root / "dvc.lock").read_bytes() == before
    for path in (project.root / "models").glob("*.*t*"):
        assert str(project.root).encode() not in path.read_bytes()


@pytest.mark.slow
def test_other_heads_run_the_transformers_branch_alone(project: Project) -> None:
    ran = project.ran("dvc", "exp", "run", "-S", "model.heads=2")
    expected = ["train@transformer", "evaluate@transformer", "select", "export", "package", "report"]
    winner = project.metrics("selection")["winner"]
    if winner != "transformer":  # the weights that ship are the same, so nothing after the choice has changed
        expected = expected[:3] + [stage for stage in expected[3:] if stage in ran]
    assert ran == expected
    changed = project.run("dvc", "metrics", "diff")
    assert re.search(r"metrics/transformer.json +valid.nll ", changed)
    assert not re.search(r"metrics/(gan|wgan|copy).json", changed)
    assert re.search(r"params.yaml +model.heads +4 +2\n", project.run("dvc", "params", "diff"))
    assert "report" in project.run("dvc", "stage", "list")
    project.run("dvc", "plots", "diff")
    assert (project.root / "dvc_plots/index.html").is_file()
    dropped = re.search(r"--drop '(.*)'", (ROOT / "Makefile").read_text("utf-8"))
    assert dropped  # by `make experiments`
    command = ("dvc", "exp", "show", "--csv", "--only-changed", "--drop", dropped[1].replace("$$", "$"))
    columns, *rows = csv.reader(project.run(*command).splitlines())
    assert {"Experiment", "metrics/transformer.json:valid.nll", "model.heads"} <= set(columns)
    assert len(columns) <= 6
    assert [row[columns.index("model.heads")] for row in rows] == ["2", "4", "2"]  # workspace, commit, experiment
    project.run("git", "reset", "-q", "--hard")
    project.run("dvc", "checkout")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "section", "key", "value", "message"),
    [
        ("train transformer", "model", "heads", 5, "model.heads must divide model.embed_dim: 24 / 5"),
        ("train transformer", "model", "heads", "two", "model.heads must be a whole number, not 'two'"),
        ("train gan", "train", "epochs", 0, "train.epochs must be at least 1, not 0"),
        ("download", "data", "source", "spotify", "data.source must be one of corpus, folder, kaggle, not 'spotify'"),
        ("download", "data", "folder", "docs", "docs: no music (.mid .midi"),
    ],
)
def test_bad_input_ends_in_one_line(
    project: Project, stage: str, section: str, key: str, value: object, message: str
) -> None:
    path = project.root / "params.yaml"
    before = path.read_bytes()
    yaml = YAML()
    params = yaml.load(before)
    params[section][key] = value
    yaml.dump(params, path)
    name, *item = stage.split()
    try:
        output = project.run(sys.executable, "-m", f"stages.{name}", *item, fails=True)
    finally:
        path.write_bytes(before)
    last = output.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_failed_experiment_says_why_and_is_undone_as_the_readme_tells(project: Project) -> None:
    [undo] = of_pages("touch params.yaml")
    assert undo == "touch params.yaml && git checkout params.yaml dvc.lock metrics plots && dvc checkout"
    path = project.root / "params.yaml"
    before = path.read_bytes()
    for setting, message in {
        "data.source=spotify": "error: params.yaml: data.source must be one of corpus, folder, kaggle, not 'spotify'",
        "model.heads=5": "error: params.yaml: model.heads must divide model.embed_dim: 24 / 5",
    }.items():
        output = project.run("dvc", "exp", "run", "-S", setting, fails=True)
        assert message in output
        assert "Traceback" not in output
        project.run("touch", "params.yaml")
        project.run("git", "checkout", "params.yaml", "dvc.lock", "metrics", "plots")
        project.run("dvc", "checkout")
        assert path.read_bytes() == before


def cloned(address: Path, root: Path) -> Project:
    """A fresh clone with nothing but what git has, and the wheels, which cost time alone."""
    subprocess.run(["git", "clone", "-q", str(address), str(root)], check=True)
    for name in ("wheels", "web"):
        if (ROOT / ".cache" / name).is_dir():
            shutil.copytree(ROOT / ".cache" / name, root / ".cache" / name, symlinks=True)
    return Project(root)


BACKWARDS = """
import os, sys, time

class Seen:
    def find_spec(self, name, path, target=None):
        if name == "pianoai.sources.midi":
            open(os.path.join(os.path.dirname(__file__), f"read-by-{os.getpid()}"), "w").close()

sys.meta_path.insert(0, Seen())

real = time.perf_counter
time.perf_counter = lambda: 1000 * real()  # reading files seems to take long, so that other processes come to it

listdir, scandir = os.listdir, os.scandir

class Reversed:
    def __init__(self, path):
        with scandir(path) as found:
            self.found = iter(sorted(found, key=lambda entry: str(entry.name), reverse=True))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.found)

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        pass

    def close(self):
        pass

os.listdir = lambda path=".": sorted(listdir(path), key=str, reverse=True)
os.scandir = lambda path=".": Reversed(path)
"""


@pytest.mark.slow
def test_another_clone_makes_the_same_of_everything(project: Project, tmp_path: Path) -> None:
    """In another folder, where folders are listed backwards, by more processes, under other settings of the shell."""
    clone = cloned(project.root, tmp_path / "a/folder of another name")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(BACKWARDS)
    clone.variables = HOSTILE | {"PYTHONPATH": str(tmp_path / "site"), "TZ": "Pacific/Auckland"}
    printed = clone.run(sys.executable, "-m", "pianoai.reproduction")
    assert sorted(re.findall(r"Running stage '([^']+)'", printed)) == sorted(stages(clone.root))
    assert len(list((tmp_path / "site").glob("read-by-*"))) > 1 or effective_n_jobs(-1) == 1
    assert re.search(r"^(\d+) of \1 outputs equal those of the last commit$", printed, re.M)
    assert (clone.root / "dvc.lock").read_bytes() == (project.root / "dvc.lock").read_bytes()
    changed = clone.run("git", "status", "--porcelain").split()
    assert changed in ([], ["M", "metrics/timings.json"])


@pytest.mark.slow
def test_a_clone_gets_all_from_s3_and_runs_nothing(project: Project, tmp_path: Path) -> None:
    (tmp_path / "store/pianoai").mkdir(parents=True)
    project.run("git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "origin"))
    project.run("git", "push", "-q", str(tmp_path / "origin"), "main")
    storage = (sys.executable, "-m", "pianoai.storage")
    with s3.running(tmp_path / "store") as server:
        first, second = (cloned(tmp_path / "origin", tmp_path / name) for name in ("first", "second"))
        with s3.pointed_at(server, project.root):
            assert re.search(r"\d+ files pushed", project.run(*storage, "push"))
        with s3.pointed_at(server, first.root), s3.pointed_at(server, second.root):
            first.run(*storage, "pull")
            assert first.ran("dvc", "repro") == []
            assert first.run("git", "status", "--porcelain") == ""
            for path in ("models/model.ts", "lambda_pkg/function.zip", "data/frames.npy"):
                assert (first.root / path).read_bytes() == (project.root / path).read_bytes()
            ran = first.ran("dvc", "exp", "run", "--name", "less-noise", "-S", "gan.latent=2")
            assert ran[0] == "train@gan"
            first.run(*storage, "exp", "push", "origin", "less-noise")
            assert "less-noise" in second.run("dvc", "exp", "list", "origin")
            second.run(*storage, "pull")
            second.run(*storage, "exp", "pull", "origin", "less-noise")
            second.run("dvc", "exp", "apply", "less-noise")
            assert second.ran("dvc", "repro") == []
            assert (second.root / "models/gan.pt").read_bytes() == (first.root / "models/gan.pt").read_bytes()
            assert second.metrics("gan") != project.metrics("gan")
            assert "remote: " in second.run(*storage[:2], "pianoai.storage.audit")


@pytest.mark.slow
def test_the_whole_pipeline_runs_from_kaggle(
    project: Project, chorales: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = cloned(project.root, tmp_path / "clone")
    yaml = YAML()
    params = yaml.load(clone.root / "params.yaml")
    params["data"]["source"] = "kaggle"
    yaml.dump(params, clone.root / "params.yaml")
    with serving(tmp_path / "kaggle", monkeypatch) as here:
        monkeypatch.delenv("PYTHONPATH")  # the clone's own code runs; only the client's address is changed
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "kaggle/site"))
        # In another order, since where all frames were the same no model would be evaluated again.
        here.data = pickle.dumps([{"piece": roll_of(piece)} for piece in reversed(chorales)])
        assert sorted(clone.ran("dvc", "repro")) == sorted(stages(clone.root))
        assert len(here.asked) == 1
    with (clone.root / "data/pieces.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"{number:04d}" for number in range(8)]
    assert {row["checksum"] for row in rows} == {hashlib.sha256(here.data).hexdigest()}
    with zipfile.ZipFile(clone.root / "lambda_pkg/function.zip") as archive:
        assert archive.read("model.ts") == (clone.root / "models/model.ts").read_bytes()
