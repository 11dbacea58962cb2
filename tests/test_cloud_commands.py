"""The documented commands of AWS and SAM as they stand, on a server that speaks AWS's protocol."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.awslambda.models import LambdaFunction
from moto.cloudformation.models import ChangeSet, Stack
from moto.server import ThreadedMotoServer

from pianoai.runtime import midi
from pianoai.runtime.function import Function
from pianoai.serving import Server
from tests.served import served
from tests.test_documented import ROOT, of_pages
from tests.test_template import REGION, expand, without_account

REQUIREMENTS = ROOT / "tests/cloud-requirements.txt"
CACHE = ROOT / ".cache"
TEMPLATE = ROOT / "lambda_pkg/template.yaml"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder with the programs `aws` and `sam`, in an environment of their own."""
    place = CACHE / f"cloud-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        command = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--requirement", str(REQUIREMENTS)], capture_output=True, text=True, check=False
        )
        if done.returncode and "PIANOAI_CI" not in os.environ:
            pytest.skip(f"there is no package index: {done.stderr[-200:]}")
        assert done.returncode == 0, done.stderr
        (place / "installed").touch()
    return place / "bin"


@pytest.fixture
def function() -> Iterator[Server]:
    """What is behind the function's URL, and answers when it is invoked."""
    with served(ROOT / "pianoai/model.ts", Path("gone.json")) as server:
        yield server


@pytest.fixture
def cloud(function: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the server. It expands templates as SAM does, and runs the function, which it cannot by itself.

    It does not know the resource AWS::Lambda::Url either: the function's server is in its place.
    """
    parse = Stack.parse_template

    def expanded(text: str) -> dict[str, Any]:
        plain: dict[str, Any] = parse(text)
        if plain.get("Resources", {}).get("Function", {}).get("Type") != "AWS::Serverless::Function":
            return plain
        code = plain["Resources"]["Function"]["Properties"]["CodeUri"]
        plain = expand(TEMPLATE.read_text("utf-8"), code)
        del plain["Resources"]["FunctionUrl"]
        plain["Outputs"]["Url"]["Value"] = function.url
        return plain

    apply = ChangeSet.apply

    def applied(self: ChangeSet) -> None:
        """The server forgets the outputs of what a change set creates."""
        apply(self)
        self.stack.template, self.stack.template_dict = self.template, self.template_dict
        self.stack.output_map = self.stack._create_output_map()

    answer = Function(ROOT / "pianoai/model.ts", Path("gone.json"))

    def invoke(self: LambdaFunction, event: Any) -> tuple[str, bool, str]:
        return json.dumps(answer(event, None)), False, ""

    monkeypatch.setattr(Stack, "parse_template", staticmethod(expanded))

    def parsed(self: ChangeSet) -> None:
        self.template_dict = expanded(self.template)

    monkeypatch.setattr(ChangeSet, "_parse_template", parsed)
    monkeypatch.setattr(ChangeSet, "apply", applied)
    monkeypatch.setattr(LambdaFunction, "_invoke_lambda", invoke)
    without_account(monkeypatch)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    address = f"http://localhost:{port}"  # with dots the server would take it for a bucket's own address
    reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")  # servers of a process share a cloud
    urllib.request.urlopen(reset).close()
    yield address
    urllib.request.urlopen(reset).close()
    server.stop()


@pytest.fixture
def project(tmp_path: Path, tools: Path, cloud: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name, and an environment in which they reach the server alone."""
    (tmp_path / ".cache").mkdir()
    shutil.copytree(ROOT / "lambda_pkg", tmp_path / "lambda_pkg", ignore=shutil.ignore_patterns("*.zip"))
    shutil.make_archive(str(tmp_path / "lambda_pkg/function"), "zip", ROOT / "pianoai/runtime")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "none")
    monkeypatch.setenv("SAM_CLI_TELEMETRY", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return tmp_path


def shell(lines: list[str], folder: Path) -> str:
    """Runs commands one after the other in one shell that stops at the first that fails; what they print."""
    named = [line.replace("YOUR-BUCKET", "your-bucket").replace("YOUR-REGION", REGION) for line in lines]
    script = "set -eo pipefail\n" + "\n".join(named)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_aws(project: Path, cloud: str) -> None:
    lines = of_pages(r"aws (cloudformation|lambda)|URL=\$\(aws|curl --aws-sigv4|echo '\{.*request\.json")
    kinds = [" ".join(line.split()[:3]) for line in lines]
    assert kinds == [
        "aws cloudformation package",
        "aws cloudformation deploy",
        "aws cloudformation describe-stacks",
        "URL=$(aws cloudformation describe-stacks",
        "curl --aws-sigv4 aws:amz:YOUR-REGION:lambda",
        'echo \'{"prompt": [[60],',
        "aws lambda invoke",
        "aws lambda update-function-code",
        "aws cloudformation delete-stack",
    ]
    s3 = boto3.client("s3", endpoint_url=cloud)
    s3.create_bucket(Bucket="your-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    printed = shell(lines[:3], project)
    assert "Successfully created/updated stack - pianoai" in printed
    assert '"OutputKey": "Url"' in printed
    functions = boto3.client("lambda", endpoint_url=cloud)
    before = functions.get_function_configuration(FunctionName="pianoai")
    assert (before["MemorySize"], before["Runtime"]) == (128, "python3.13")

    answer = json.loads(shell(lines[3:5], project))
    assert (answer["seed"], answer["frames"], answer["complete"]) == (7, 128, True)

    shell(lines[5:7] + of_pages(r"python3 -c 'import base64, json; open\(\"answer"), project)
    notes, _ = midi.read(project / "answer.mid")
    assert len(notes)

    shutil.make_archive(str(project / "lambda_pkg/function"), "zip", ROOT / "web")
    shell(lines[7:8], project)
    assert functions.get_function_configuration(FunctionName="pianoai")["CodeSha256"] != before["CodeSha256"]
    shell(lines[8:], project)
    assert functions.list_functions()["Functions"] == []


def test_sam(project: Path, cloud: str) -> None:
    lines = of_pages("sam deploy")
    names = [re.search(r"--stack-name (\S+)", line)[1] for line in lines]  # type: ignore[index]
    assert sorted(names) == ["my-piano", "pianoai"]
    for line in lines:
        printed = shell([line], project)
        assert "Successfully created/updated stack" in printed
        assert "127.0.0.1" in printed  # the URL is among what it says
    functions = boto3.client("lambda", endpoint_url=cloud)
    assert sorted(found["FunctionName"] for found in functions.list_functions()["Functions"]) == sorted(names)
    assert functions.get_function(FunctionName="my-piano")["Concurrency"] == {"ReservedConcurrentExecutions": 2}
