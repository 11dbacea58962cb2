"""Code that a TorchScript archive may hold, and code that it may not."""

import io
import math
import zipfile

import numpy as np
import pytest

from pianoai.runtime import compiler
from pianoai.runtime.errors import InputError
from pianoai.runtime.torchscript import load


def handmade(body: str, arguments: str = "x: Tensor", above: str = "") -> bytes:
    """An archive whose one module has this code."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    head = f"class M(Module):\n  __parameters__ = []\n  def forward(self: __torch__.M, {arguments}) -> Tensor:\n"
    code = above + head + lines
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/code/__torch__.py", code)
        archive.writestr("m/constants.pkl", b"\x80\x02).")
        archive.writestr("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81}b.")
    return buffer.getvalue()


def test_named_tuples_are_types_only() -> None:
    above = "class Pair(NamedTuple):\n  a : Tensor\n"
    assert load(handmade("return x", above=above))(7) == 7
    with pytest.raises(InputError, match=r"the unknown function __torch__\.Pair"):
        load(handmade("return __torch__.Pair(x)", above=above))


def test_handmade_archive_runs() -> None:
    assert load(handmade("y = torch.add(x, 1)\nreturn y"))(np.array([1.0])) == [2.0]
    assert load(handmade("a, b, = [inf, nan]\nreturn a"))(None) == math.inf
    assert load(handmade("return (1, -2, 1e999)[0:2]"))(None) == (1, -2)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("import os\nreturn x", "Import"),
        ("from os import system\nreturn x", "ImportFrom"),
        ("return __import__('os').system('ls')", r"a call of __import__"),
        ("return x.__class__", "the name __class__"),
        ("return x.__class__.__base__.__subclasses__()", "the name __"),
        ("y = x\nreturn y.__init__(1)", "the name __init__"),
        ("return getattr(x, '__class__')", "an unusual getattr"),
        ("return getattr(x, x)", "an unusual getattr"),
        ("return eval('1')", "a call of eval"),
        ("return print(x)", "a call of print"),
        ("return open", "the unknown name open"),
        ("return (lambda: 1)()", "a call of an expression"),
        ("return lambda: 1", "Lambda"),
        ("return [y for y in x]", "ListComp"),
        ("return x if x else x", "IfExp"),
        ("return f'{x}'", "JoinedStr"),
        ("return x + 1", "BinOp"),
        ("return x < 1", "Compare"),
        ("return (y := x)", "NamedExpr"),
        ("return [*x]", "Starred"),
        ("return {**x}", "a starred dict"),
        ("return torch.add(*x)", "Starred"),
        ("return torch.add(x, **x)", "starred arguments"),
        ("return torch.add(x, __class__=x)", "the name __class__"),
        ("return await_.y", "the unknown name await_"),
        ("return b'x'", "Constant"),
        ("return ...", "Constant"),
        ("return 1j", "Constant"),
        ("return ~1", "UnaryOp"),
        ("return -(x)(1)", "UnaryOp"),
        ("return x[::2]", "Slice"),
        ("__builtins__ = x\nreturn x", "the name __builtins__"),
        ("x[0] = 1\nreturn x", "an assignment to Subscript"),
        ("x = y = 1\nreturn x", "Assign"),
        ("x += 1\nreturn x", "AugAssign"),
        ("del x", "Delete"),
        ("global x", "Global"),
        ("try:\n  pass\nfinally:\n  pass", "Try"),
        ("with x:\n  pass", "With"),
        ("raise x", "Raise"),
        ("assert x", "Assert"),
        ("yield x", "Expr"),
        ("def f():\n  pass", "FunctionDef"),
        ("class A:\n  pass", "ClassDef"),
        ("for i in x:\n  pass", "For"),
        ("for i in range(1, 2):\n  pass", "For"),
        ("while x:\n  pass\nelse:\n  pass", "While"),
        ("while x:\n  break", "Break"),
        ("match x:\n  case _: pass", "Match"),
        ("return CONSTANTS.c0", "the constant c0"),
        ("return CONSTANTS.__class__", "the constant __class__"),
        ("return CONSTANTS", "the unknown name CONSTANTS"),
        ("return __torch__.other(x)", "the unknown function __torch__.other"),
        ("return ᵗorch.add(x, x)[0].é", "the name é"),
    ],
)
def test_code_that_is_refused(body: str, what: str) -> None:
    with pytest.raises(
        InputError, match=rf"^archive: the model's code has {what}.* \(line \d+\), which is not allowed$"
    ):
        load(handmade(body))


@pytest.mark.parametrize(
    "above",
    [
        "import os\n",
        "x = 1\n",
        "class A(Evil):\n  pass\n",
        "class A(Module, metaclass=x):\n  pass\n",
        "class A(Module):\n  import os\n",
        "def f(*x):\n  return x\n",
        "def f(x, /):\n  return x\n",
        "def f(*, x=1):\n  return x\n",
        "@g\ndef f(x):\n  return x\n",
        "def f(x=open):\n  return x\n",
        "@g\nclass A(Module):\n  pass\n",
    ],
)
def test_modules_that_are_refused(above: str) -> None:
    with pytest.raises(InputError, match="which is not allowed"):
        load(handmade("return x", above=above))


def test_unknown_operators_of_any_spelling() -> None:
    for name in ("torch.load", "torch.hub.load", "ops.aten.add", "torch.add.__globals__", "torch._C"):
        with pytest.raises(InputError, match=f"lacks the operators {name};"):
            load(handmade(f"return {name}(x)"))


def test_syntax_errors_and_deep_code() -> None:
    for body in ("return (", "return " + "[" * 300 + "]" * 300, "return " + "-" * 5000 + "1", "return x\0"):
        with pytest.raises(InputError, match=r"is not TorchScript|nested too deeply|not allowed"):
            load(handmade(body))
    body, indent = "", ""
    for _ in range(70):
        body += f"{indent}if x:\n"
        indent += " "
    with pytest.raises(InputError, match="deeper than 60"):
        load(handmade(body + indent + "return x"))
    with pytest.raises(InputError, match=r"not TorchScript|nested too deeply|not allowed"):
        load(handmade("return " + "torch.neg(" * 900 + "x" + ")" * 900))


def test_loops_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.Loops.__init__, "__defaults__", (1000,))
    counted = load(handmade("for i in range(x):\n  x = i\nreturn x"))
    assert counted(1000) == 999
    assert counted(1000) == 999  # every call has its own allowance
    for body in (
        "while True:\n  pass",
        "for i in range(100):\n  for j in range(100):\n    pass",
        "for i in range(9223372036854775807):\n  pass",
    ):
        with pytest.raises(InputError, match="forward: the model loops more than 1000 times"):
            load(handmade(body))(1)


def test_recursion_is_an_input_error() -> None:
    with pytest.raises(InputError, match="forward failed; check its inputs: maximum recursion"):
        load(handmade("return (self).forward(x, )"))(1)


def test_run_time_misuse() -> None:
    for body in (
        "return (x).forward(1, )",
        "return x.shape",
        "return x(1)",
        "return (self).other(x, )",
        "return self.weight",
        "return torch.add(x)",
        "return y\ny = x",
    ):
        with pytest.raises(InputError, match=r"^archive: forward"):
            load(handmade(body))(np.ones(2))
