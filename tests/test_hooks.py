"""The hooks that `make hooks` gives to git."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.imports import ROOT

HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook
    for source in YAML(typ="safe").load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    for hook in source["hooks"]
    if source["repo"] == "local"  # nothing is fetched
}


def test_hooks_are_programs_of_the_environment() -> None:
    assert list(HOOKS) == ["ruff-check", "ruff-format", "mypy", "dvc-status", "dvc-checkout"]
    for hook in HOOKS.values():
        program = hook["entry"].split()[0]
        assert hook["language"] == "system"
        assert program.startswith(".venv/bin/")
        assert (Path(sys.executable).parent / Path(program).name).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given"), [("ruff-check", "x = 1\n"), ("ruff-format", "x=1\n"), ("mypy", "x: int = ''\n")]
)
def test_a_hook_fails_where_something_is_wrong(name: str, given: str, tmp_path: Path) -> None:
    program, *options = HOOKS[name]["entry"].split()
    (tmp_path / "wrong.py").write_text(given)  # without a docstring, spaces or the right type
    command = [
        Path(sys.executable).parent / Path(program).name,
        *options,
        "--config-file" if name == "mypy" else "--config",
    ]
    done = subprocess.run(
        [*command, ROOT / "pyproject.toml", "wrong.py"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"wrong.py" in done.stdout
