"""The hooks that `make hooks` gives to git."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.imports import ROOT, environment

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


PIPELINE = """
stages:
  copy:
    cmd: cp given made
    deps: [given]
    outs: [made]
"""


@pytest.mark.slow
def test_dvc_says_what_is_stale_before_a_commit_and_fetches_outputs_on_checkout(tmp_path: Path) -> None:
    def run(*command: str, **variables: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment() | variables, capture_output=True, check=True)
        return done.stdout.decode()

    def hook(name: str, **variables: str) -> str:
        assert HOOKS[name].get("pass_filenames") is False  # so that nothing is given but what pre-commit sets
        return run(*HOOKS[name]["entry"].removeprefix(".venv/bin/").split(), **variables)

    def commit(given: str) -> None:
        (tmp_path / "given").write_text(given)
        run("dvc", "repro")
        run("git", "add", "-A")
        run("git", "-c", "user.name=tester", "-c", "user.email=tester@localhost", "commit", "-qm", given)

    run("git", "init", "-q", "-b", "main")
    run("dvc", "init", "-q")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    commit("first")
    commit("second")
    assert "up to date" in hook("dvc-status")
    (tmp_path / "given").write_text("third")
    assert "modified:" in hook("dvc-status")
    run("git", "checkout", "-q", "--force", "HEAD~1")
    assert (tmp_path / "made").read_text() == "second"
    hook("dvc-checkout", PRE_COMMIT_CHECKOUT_TYPE="0")  # of a single file
    assert (tmp_path / "made").read_text() == "second"
    hook("dvc-checkout", PRE_COMMIT_CHECKOUT_TYPE="1")  # of a branch
    assert (tmp_path / "made").read_text() == "first"
