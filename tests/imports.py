"""Which of the repository's modules a stage imports, found by reading the code."""

import ast
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment() -> dict[str, str]:
    """The environment, with the programs beside this Python first on its path."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def imported(stage: str, item: str | None = None) -> set[str]:
    """Files of this repository that running `stages/STAGE.py` may import, itself included, as posix paths.

    `item` is the model's name where a module is chosen at run time (`family(name)`). A package's `__init__.py`
    counts when it holds more than a docstring and constants.
    """
    found: set[str] = set()
    open_files = [f"stages/{stage}.py"]
    while open_files:
        name = open_files.pop()
        if name in found:
            continue
        found.add(name)
        tree = ast.parse((ROOT / name).read_text("utf-8"))
        for module in modules(tree):
            open_files += files(module)
        # Two modules choose others by name while they run; `kaggle` runs `fetch` in a process of its own.
        if name == "pianoai/checkpoint.py":
            families = ("copy", "gan", "wgan", "transformer")
            open_files += [f"pianoai/models/{each}.py" for each in families if item in (None, each)]
        if name == "pianoai/sources/__init__.py" and stage == "download":
            open_files += [f"pianoai/sources/{each}.py" for each in ("corpus", "folder", "kaggle", "fetch")]
    return found


def modules(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports, wherever in it; `from a import b` gives a and a.b."""
    names: set[str] = set()
    nodes = [tree]
    for node in nodes:
        # What stands under `if TYPE_CHECKING` is never imported.
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        nodes += [] if checking else list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(module: str) -> list[str]:
    """The file of a module of this repository, and of its packages where they hold code."""
    parts = module.split(".")
    if parts[0] not in ("pianoai", "stages", "lambda_pkg"):
        return []
    found = []
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        package, plain = f"{path}/__init__.py", f"{path}.py"
        if (ROOT / plain).is_file():
            found.append(plain)
        elif (ROOT / package).is_file() and has_code(ROOT / package):
            found.append(package)
    if module == "pianoai.__version__":
        found.append("pianoai/__init__.py")
    return found


def attributes(names: set[str]) -> set[str]:
    """Names of the attributes that some files of this repository read, whichever objects they are of."""
    trees = [ast.parse((ROOT / name).read_text("utf-8")) for name in names]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def has_code(path: Path) -> bool:
    """Whether a file holds more than a docstring and constants."""
    body = ast.parse(path.read_text("utf-8")).body
    return any(not isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) for node in body)


# What a stage imports only for other parameters or another winner than those of a run, by its name: no run shows it.
OTHERWISE = {
    "download": {"pianoai/matfile.py"}
    | {
        f"pianoai/sources/{name}.py"
        for name in ("corpus", "kaggle", "fetch", "rolls", "unpickling", "scores", "multitrack")
    },
    "export": {
        f"pianoai/models/{name}.py" for name in ("gan", "wgan", "transformer", "copy", "adversarial", "supervised")
    },
}
# What it reads only for other values of such keys; trainings keep all of their configuration, so none of theirs.
UNREAD = {
    "download": r"data\.(kaggle\.(file|frames_per_beat|handle|seconds|velocity_scale)|mat_frames_per_beat)",
    "select": r"select\.tolerance",
}
RECORDER = """
import atexit, dataclasses, json, os, sys
from pathlib import Path

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
    keys = set()
    root = os.getcwd()
    sys.path.insert(0, root)
    from pianoai import params
    sys.path.remove(root)
    read = params.read
    called = {}  # what was read, by the number of the object

    def watch(key, config):
        kind = type(config)
        plain = kind.__getattribute__
        names = {field.name for field in dataclasses.fields(kind)}
        for name in names:
            if dataclasses.is_dataclass(value := getattr(config, name)):
                watch(f"{key}.{name}", value)

        def get(self, name):
            if name in names and id(self) in called:
                keys.add(f"{called[id(self)]}.{name}")
            return plain(self, name)

        kind.__getattribute__ = get
        called[id(config)] = key
        return config

    kept = []

    def recorded(section, *others):
        kept.append(watch(section, read(section, *others)))  # kept, so that no other object gets its number
        return kept[-1]

    params.read = recorded

    @atexit.register
    def write():
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        ours = sorted({os.path.relpath(file, root) for file in files if file.startswith(root + os.sep)})
        address = "@".join([sys.orig_argv[2].removeprefix("stages."), *sys.argv[1:]])
        found = {"files": ours, "keys": sorted(keys)}
        Path(__file__).with_name(address + ".json").write_text(json.dumps(found))
"""


def record(folder: Path) -> dict[str, str]:
    """Have each stage write what it imported and read into FOLDER/STAGE.json as it ends, under these variables."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(RECORDER, "utf-8")
    return {"PYTHONPATH": str(folder)}
