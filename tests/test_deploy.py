"""The template and the zip on a server that speaks AWS's protocol: a stack, its function, an update."""

import ast
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pianoai import packaging
from pianoai.packaging import DeployConfig, write_zip
from pianoai.runtime.errors import InputError
from tests.test_template import REGION, TEMPLATE, expand, without_account
from tests.tiny_model import save_archive

ROOT = Path(__file__).parents[1]


class Cloud:
    """Clients of the server at `address`."""

    def __init__(self, address: str) -> None:
        for name in ("cloudformation", "iam", "lambda", "logs", "s3"):
            setattr(self, name.replace("lambda", "functions"), boto3.client(name, endpoint_url=address))

    cloudformation: Any
    iam: Any
    functions: Any
    logs: Any
    s3: Any


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        without_account(patch)
        host, port = server.get_host_and_port()
        yield Cloud(f"http://{host}:{port}")
    server.stop()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "function.zip"
    write_zip({"handler.py": b"def lambda_handler(event, context): return event"}, path)
    return path


def checksum(path: Path) -> str:
    """A file's SHA-256 as Lambda writes it."""
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()


def deploy(cloud: Cloud, name: str, code: Path, **parameters: str) -> dict[str, Any]:
    """Upload, package and create the stack as `aws cloudformation package` and `deploy` do; the URL's properties.

    The server does not know the resource AWS::Lambda::Url: it and its output are taken out.
    """
    bucket = f"code-of-{name}"
    cloud.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    cloud.s3.put_object(Bucket=bucket, Key="code", Body=code.read_bytes())
    plain = expand(TEMPLATE.read_text("utf-8"), f"s3://{bucket}/code")
    url = plain["Resources"].pop("FunctionUrl")
    assert url["Type"] == "AWS::Lambda::Url"
    assert plain["Outputs"].pop("Url")["Value"] == {"Fn::GetAtt": ["FunctionUrl", "FunctionUrl"]}
    cloud.cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(plain),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )
    (stack,) = cloud.cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]} == {"FunctionName": name}
    properties: dict[str, Any] = url["Properties"]
    return properties


def test_the_private_function(cloud: Cloud, code: Path) -> None:
    url = deploy(cloud, "pianoai", code)
    found = cloud.functions.get_function(FunctionName="pianoai")
    function = found["Configuration"]
    expected = {
        "Runtime": "python3.13",
        "Architectures": ["x86_64"],
        "Handler": "handler.lambda_handler",
        "MemorySize": 128,
        "Timeout": 60,
        "PackageType": "Zip",
        "CodeSha256": checksum(code),
        "CodeSize": code.stat().st_size,
    }
    assert {key: function[key] for key in expected} == expected
    assert "Environment" not in function
    assert "Concurrency" not in found
    with pytest.raises(cloud.functions.exceptions.ResourceNotFoundException):
        cloud.functions.get_policy(FunctionName="pianoai")
    assert url["TargetFunctionArn"] == {"Ref": "Function"}
    assert url["AuthType"] == {"Ref": "Auth"}
    condition, _, otherwise = url["Cors"]["Fn::If"]
    assert (condition, otherwise) == ("Public", {"Ref": "AWS::NoValue"})


def test_the_function_may_write_its_own_log_and_nothing_else(cloud: Cloud, code: Path) -> None:
    deploy(cloud, "private", code, RetentionDays="30")
    (group,) = cloud.logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/private")["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == ("/aws/lambda/private", 30)
    arn = cloud.functions.get_function_configuration(FunctionName="private")["Role"]
    role = cloud.iam.get_role(RoleName=arn.split("/")[-1])["Role"]
    assert role["Arn"] == arn
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    assert cloud.iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"] == []
    (name,) = cloud.iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    policy = cloud.iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
    # The server hands back Python's notation of what the stack gave it.
    assert ast.literal_eval(policy)["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Resource": f"arn:aws:logs:{REGION}:123456789012:log-group:/aws/lambda/private:*",
        }
    ]


def test_the_public_function(cloud: Cloud, code: Path) -> None:
    parameters = {"Auth": "NONE", "Concurrency": "5", "Runtime": "python3.14"}
    url = deploy(cloud, "public", code, **parameters)
    found = cloud.functions.get_function(FunctionName="public")
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert found["Configuration"]["Runtime"] == "python3.14"
    policy = json.loads(cloud.functions.get_policy(FunctionName="public")["Policy"])
    assert {statement["Action"] for statement in policy["Statement"]} == {
        "lambda:InvokeFunctionUrl",
        "lambda:InvokeFunction",
    }
    _, cors, _ = url["Cors"]["Fn::If"]
    assert cors == {
        "AllowOrigins": [{"Ref": "Origin"}],
        "AllowMethods": ["GET", "POST"],
        "AllowHeaders": ["content-type"],
        "MaxAge": 86400,
    }


@pytest.mark.slow
def test_new_code(cloud: Cloud, code: Path, tmp_path: Path) -> None:
    """The zip that is built is what update-function-code sends and what arrives; nothing else changes."""
    function = tmp_path / "built.zip"
    config = DeployConfig("3.13", "x86_64", 50.0, 250.0, 128, False)
    try:
        packaging.wheels(ROOT / "lambda_pkg/requirements.txt", config, ROOT / packaging.CACHE)
    except InputError as error:  # neither the cache nor a package index has them
        pytest.skip(str(error))
    save_archive(tmp_path / "model.ts")
    page = tmp_path / "page.json"
    page.write_text("{}")
    sizes = packaging.build(tmp_path / "model.ts", page, function, config, ROOT)
    deploy(cloud, "updated", code)
    before = cloud.functions.get_function_configuration(FunctionName="updated")
    assert before["CodeSha256"] == checksum(code)
    answer = cloud.functions.update_function_code(FunctionName="updated", ZipFile=function.read_bytes())
    after = cloud.functions.get_function_configuration(FunctionName="updated")
    assert answer["CodeSha256"] == after["CodeSha256"] == checksum(function) != before["CodeSha256"]
    assert base64.b64decode(after["CodeSha256"]).hex() == sizes["zip_sha256"]
    assert after["CodeSize"] == sizes["zip_bytes"] == function.stat().st_size > 10 * packaging.MB
    for key in ("MemorySize", "Timeout", "Runtime", "Handler", "Role", "Architectures"):
        assert after[key] == before[key]
