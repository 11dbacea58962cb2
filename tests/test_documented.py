"""Every command of the README and of docs/: run here, or by the test that is named beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pianoai.runtime import midi
from tests.served import served

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE = r"pianoai (generate|render|score) |curl -s URL|python3 -c 'import base64"
# Commands by pattern, and the test that runs them, or what they do with others' programs.
ELSEWHERE = {
    r"make repro$|make reproduce|make metrics|dvc repro( window)?$": "test_pipeline::project",
    r"make demo": "test_serving::test_requests_become_events_and_answers_responses",
    r"make report": "test_report::test_the_command_puts_both_together",
    r"pip install '\.\[render\]'": "test_cli::test_installed_with_pip",
    r"\.venv/bin/python -(m (zipfile|json\.tool|tests\.test_runtime_page)|X importtime)": "test_runtime_page::test_c",
    r"sed -n \d": "test_runtime_page::test_c",
    r"make install|make help|make hooks|make experiments|make plots|make quick": "test_makefile::test_targets",
    r"make verify$": "test_verification::test_a_function_is_measured_under_the_real_emulator",
    r"make verify-aws FUNCTION=": "test_verification::test_a_deployed_function",
    r"make s3": "test_storage::test_make_s3_points_the_remote_at_itself_while_it_runs",
    r"make (push|pull)|git clone \.|cp \.dvc/config\.local|cd \.\./elsewhere": "test_pipeline::test_a_clone_gets_all",
    r"make audit": "test_storage::test_a_damaged_object_is_refused_found_and_replaced",
    r"python -m pianoai\.storage exp push": "test_storage::test_what_is_pushed_can_be_pulled_elsewhere",
    r"dvc remote modify|aws s3 mb": "test_storage::test_the_documented_policy_is_enough_and_no_more",
    r"(\.venv/bin/)?dvc exp run -S data\.source=folder|cp -r ~/my|sed -i|git commit -am": "test_pipeline::project",
    r"(\.venv/bin/)?dvc exp run -S data\.source=kaggle": "test_pipeline::test_the_whole_pipeline_runs_from_kaggle",
    r"dvc exp run -S (model\.heads=2|train\.epochs=[14])": "test_pipeline::test_other_heads_run",
    r"dvc exp run -S model\.heads=5|touch params\.yaml": "test_pipeline::test_a_failed_experiment_says_why",
    r"dvc (metrics|params) diff|dvc stage list|dvc plots diff": "test_pipeline::test_other_heads_run",
    r"dvc exp run --queue|(GOMP_SPINCOUNT=1000 )?dvc queue|dvc exp show": "test_machines::test_two_workers",
    r"dvc exp run -S train\.(accelerator|devices)|python -c 'import torch": "test_machines::test_two_processes_learn",
    r"dvc exp run -S deploy\.bytecode=true": "test_packaging::test_bytecode",
    r"torchrun|dvc commit --force train": "test_machines::test_two_machines_under_torchrun",
    r"git tag -a selected|dvc artifacts get": "test_pipeline::test_artifacts_are_what_was_chosen_and_exported",
    r"source \.venv/bin/activate": "test_makefile::test_targets",
    r"sam deploy": "test_cloud_commands::test_sam",
    r"aws (cloudformation|lambda)|URL=\$\(aws|curl --aws-sigv4": "test_cloud_commands::test_aws",
    r"echo '\{.*request\.json": "test_cloud_commands::test_aws",
    r"\.venv/bin/python -m benchmarks\.cost": "test_benchmarks::test_the_arithmetic_is_shown",
    r"\.venv/bin/python -m benchmarks\.pauses": "test_benchmarks::test_frames_after_a_pause_are_timed_one_by_one",
    r"python -m pianoai generate -o new\.wav": "test_rendering::test_the_command",
}


def commands(page: Path) -> list[str]:
    """The commands of a page's console blocks, without the comments behind them."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"(?m)^\$ ((?:.*\\\n)*.*)", block)]
    return [re.sub(r"\s+# .*$", "", line) for line in lines]


def of_pages(pattern: str) -> list[str]:
    found = [line for page in PAGES for line in commands(page) if re.match(pattern, line)]
    assert found
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_by_a_test(page: Path) -> None:
    for line in commands(page):
        covering = [name for pattern, name in ELSEWHERE.items() if re.match(pattern, line)]
        assert covering or re.match(HERE, line), f"{page.name}: no test runs: {line}"
        for name in covering:
            file, _, test = name.partition("::")
            text = (ROOT / f"tests/{file}.py").read_text("utf-8")
            assert re.search(rf"^def {test}", text, re.MULTILINE), f"{page.name}: {name} is not there"


def test_targets_named_in_the_pages_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z0-9-]+)", page.read_text("utf-8")))
        named |= {line.split()[1] for line in commands(page) if line.startswith("make ")}
        assert named <= targets | {"help"}, page.name


def test_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    printed = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^make ([a-z0-9-]+) +\S", printed, re.MULTILINE)
    assert sorted(listed) == sorted(phony.group(1).split())


def test_as_many_outputs_are_compared_as_there_are() -> None:
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text("utf-8"))
    number = len({out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])})
    page = (ROOT / "docs/reproducibility.md").read_text("utf-8")
    assert f"\n{number} of {number} outputs equal those of the last commit\n" in page


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)  # code may look like a link
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            there = page.parent / path if path else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads]
                assert anchor in anchors, f"{page.name}: {target}"


@pytest.mark.slow
def test_the_commands_that_make_music(tmp_path: Path) -> None:
    (tmp_path / "plots/samples").mkdir(parents=True)
    shutil.copy(ROOT / "plots/samples/transformer-1.mid", tmp_path / "plots/samples")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin/pianoai"  # as pip would install it
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pianoai "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    for line in of_pages("pianoai "):
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), line
        assert done.stdout
    assert (tmp_path / "continued.wav").read_bytes().startswith(b"RIFF")
    assert (tmp_path / "new.png").read_bytes().startswith(b"\x89PNG")
    assert len(midi.read(tmp_path / "new.mid")[0]) > 20


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_that_ask_the_function(tmp_path: Path) -> None:
    shutil.copy(ROOT / "plots/samples/transformer-1.mid", tmp_path / "prompt.mid")
    (tmp_path / "answer.json").write_text(json.dumps({"midi": "TVRoZA=="}))
    with served(ROOT / "pianoai/model.ts", tmp_path / "page.json") as server:
        for line in of_pages(r"curl -s URL|python3 -c 'import base64"):
            asked = line.replace("URL", server.url.rstrip("/"))
            done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), line
            if done.stdout:
                answer = json.loads(done.stdout)
                assert ("error" in answer) == ('"pitch": 200' in line), line
    assert len(midi.read(tmp_path / "new.mid")[0]) > 20
    assert (tmp_path / "answer.mid").read_bytes() == b"MThd"
