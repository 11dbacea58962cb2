"""The targets of the Makefile, with programs that only say how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.imports import ROOT


def test_targets_run_the_programs_of_the_environment_in_a_folder_with_a_space(tmp_path: Path) -> None:
    root = tmp_path / "a folder"
    (root / ".venv/bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock"):
        shutil.copyfile(ROOT / name, root / name)
    for name in ("python", "dvc", "ruff"):
        (root / ".venv/bin" / name).write_text(f'#!/bin/sh\necho "here: {name} $@"\n')
        (root / ".venv/bin" / name).chmod(0o755)
    (root / ".venv/installed").touch()
    usual = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(["make", "repro", "lint"], cwd=root, env=usual, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("here: ")] == [
        "here: dvc repro",
        "here: python -m stages.verify",
        "here: python -m pianoai.summary",
        "here: ruff check .",
        "here: ruff format --check .",
    ]
