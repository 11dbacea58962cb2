"""The CloudFormation template: what the linter says of it, and what its parameters do."""

import json
import os
import re
from dataclasses import fields
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from pianoai.packaging import DeployConfig
from tests.imports import ROOT

TEMPLATE = ROOT / "lambda_pkg/template.yaml"
REGION = "eu-central-1"
# Rules that ask the calendar whether a runtime is still served, so that no test fails by itself one day.
CALENDAR = ["E2531", "E2533", "W2531"]


class NoManagedPolicies:
    """The template names none, so nothing asks IAM for their list."""

    def load(self) -> dict[str, str]:
        raise AssertionError("a managed policy is used")


def expand(text: str, code: str = "s3://bucket/function.zip") -> dict[str, Any]:
    """The template as plain CloudFormation, by SAM's own translator, with the zip already uploaded to `code`."""
    template = yaml_parse(text)
    template["Resources"]["Function"]["Properties"]["CodeUri"] = code
    with pytest.MonkeyPatch.context() as patch:
        without_account(patch)
        plain: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return plain


def without_account(patch: pytest.MonkeyPatch) -> None:
    """Sets what AWS's libraries ask for, and hides what the person who runs the tests may have."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.setenv(name, os.devnull)
    patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    patch.setenv("AWS_DEFAULT_REGION", REGION)


def faults(text: str) -> set[str]:
    """Rules of cfn-lint that a template breaks: errors and warnings, as it is written and as SAM expands it."""
    config = ManualArgs(ignore_checks=CALENDAR)
    found = lint(text, config=config)
    if not found:
        found = lint(json.dumps(expand(text)), config=config)
    return {match.rule.id for match in found}


def test_the_linter_finds_nothing() -> None:
    assert faults(TEMPLATE.read_text("utf-8")) == set()


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("MemorySize: 128", "MemorySize: 100", "E3034"),
        ("Timeout: 60", "Timeout: 1000", "E3717"),
        ("AuthType: !Ref Auth", "AuthType: !Ref Origin", "W1030"),
        ("Timeout: 60", "TimeOut: 60", "E3002"),
        ("python3.14]", "python3.99]", "W1030"),
        ("!GetAtt Role.Arn", "!GetAtt Rolle.Arn", "E1010"),
        ("Principal:\n              Service", "Principals:\n              Service", "E3530"),
    ],
)
def test_the_linter_finds_a_mistake(right: str, wrong: str, rule: str) -> None:
    text = TEMPLATE.read_text("utf-8")
    assert text.count(right) >= 1
    assert rule in faults(text.replace(right, wrong, 1))


def test_it_takes_what_the_zip_can_be_built_for() -> None:
    choices = {field.name: field.metadata["choices"] for field in fields(DeployConfig)}
    parameters = yaml_parse(TEMPLATE.read_text("utf-8"))["Parameters"]
    assert parameters["Runtime"]["AllowedValues"] == [f"python{version}" for version in choices["python"]]
    assert tuple(parameters["Architecture"]["AllowedValues"]) == choices["architecture"]
    function = expand(TEMPLATE.read_text("utf-8"))["Resources"]["Function"]["Properties"]
    assert function["Runtime"] == {"Ref": "Runtime"}
    assert function["Architectures"] == [{"Ref": "Architecture"}]


def test_the_page_of_the_function_names_every_parameter_with_its_default() -> None:
    text = (ROOT / "docs/function.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for name, parameter in yaml_parse(TEMPLATE.read_text("utf-8"))["Parameters"].items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert str(parameter["Default"]) in row.split("|")[2]


@pytest.mark.parametrize(
    ("concurrency", "allowed"),
    [("none", True), ("1", True), ("250", True), ("0", False), ("-1", False), ("", False), ("many", False)],
)
def test_a_limit_is_none_or_a_number_above_zero(concurrency: str, allowed: bool) -> None:
    parameter = yaml_parse(TEMPLATE.read_text("utf-8"))["Parameters"]["Concurrency"]
    assert (re.fullmatch(parameter["AllowedPattern"], concurrency) is not None) == allowed


@pytest.mark.parametrize(
    ("auth", "concurrency", "accepted"),
    [("AWS_IAM", "none", True), ("AWS_IAM", "5", True), ("NONE", "5", True), ("NONE", "none", False)],
)
def test_a_public_function_must_have_a_limit(auth: str, concurrency: str, accepted: bool) -> None:
    plain = expand(TEMPLATE.read_text("utf-8"))
    (rule,) = plain["Rules"].values()
    values = {"Auth": auth, "Concurrency": concurrency}
    refused = holds(rule["RuleCondition"], values) and not all(holds(a["Assert"], values) for a in rule["Assertions"])
    assert refused != accepted


def holds(condition: dict[str, Any], values: dict[str, str]) -> bool:
    """A condition of CloudFormation, made of Fn::Equals, Fn::Not and Ref, for these parameters."""
    ((function, arguments),) = condition.items()
    if function == "Fn::Not":
        return not holds(arguments[0], values)
    assert function == "Fn::Equals"
    left, right = (values[each["Ref"]] if isinstance(each, dict) else each for each in arguments)
    return bool(left == right)


def test_only_a_public_function_lets_everybody_in() -> None:
    plain = expand(TEMPLATE.read_text("utf-8"))
    permissions = {
        name: resource for name, resource in plain["Resources"].items() if resource["Type"] == "AWS::Lambda::Permission"
    }
    assert {resource["Condition"] for resource in permissions.values()} == {"Public"}
    assert {resource["Properties"]["Action"] for resource in permissions.values()} == {
        "lambda:InvokeFunctionUrl",
        "lambda:InvokeFunction",
    }
    # Invoking is for those who come by the URL, and the URL's permission ends with its being public.
    assert permissions["PublicInvocation"]["Properties"]["InvokedViaFunctionUrl"] is True
    assert permissions["PublicUrl"]["Properties"]["FunctionUrlAuthType"] == "NONE"
    public = plain["Conditions"]["Public"]
    assert holds(public, {"Auth": "NONE"})
    assert not holds(public, {"Auth": "AWS_IAM"})
