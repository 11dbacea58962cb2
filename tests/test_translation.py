"""Code that a TorchScript archive may hold, and code that it may not."""

import io
import math
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from pianoai.runtime import limits
from pianoai.runtime.errors import InputError
from pianoai.runtime.torchscript import load
from pianoai.runtime.translation import Names


def handmade(
    body: str,
    arguments: str = "x: Tensor",
    above: str = "",
    state: bytes = b"}",
    constants: bytes = b")",
    storage: bytes = b"",
) -> bytes:
    """An archive whose one module has this code, this state and these constants; `storage` is the constants' first."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    head = f"class M(Module):\n  __parameters__ = []\n  def forward(self: __torch__.M, {arguments}) -> Tensor:\n"
    code = above + head + lines
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/code/__torch__.py", code)
        archive.writestr("m/constants.pkl", b"\x80\x02" + constants + b".")
        archive.writestr("m/constants/0", storage)
        archive.writestr("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81" + state + b"b.")
    return buffer.getvalue()


def repeated(kind: str, *shape: int) -> bytes:
    """The pickle of a tensor of that shape, all of it the one value of the first storage."""
    plain = {size: b"J" + struct.pack("<i", size) for size in (0, 1, *shape)}
    sizes, strides = b"".join(plain[size] for size in shape), plain[0] * len(shape)
    texts = [b"X" + struct.pack("<I", len(text)) + text for text in (b"storage", b"0", b"cpu")]
    reference = b"(" + texts[0] + f"ctorch\n{kind}Storage\n".encode() + texts[1] + texts[2] + plain[1] + b"tQ"
    arguments = b"(" + reference + plain[0] + b"(" + sizes + b"t(" + strides + b"t\x89ccollections\nOrderedDict\n)Rt"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


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
    monkeypatch.setattr(limits.Budget.__init__, "__defaults__", (1000,))
    counted = load(handmade("for i in range(x):\n  x = i\nreturn x"))
    assert counted(999) == 998
    assert counted(999) == 998  # every call has its own allowance, of which the call itself is a step
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


HUGE = 2**40


@pytest.mark.parametrize(
    "expression",
    [
        f"torch.zeros([{HUGE}])",
        f"torch.zeros(size=[{HUGE}])",
        "torch.zeros([1048576, 1048576])",
        f"torch.empty([{HUGE}])",
        f"torch.full([{HUGE}], 1.0)",
        f"torch.new_full(x, [{HUGE}], 1)",
        f"torch.new_zeros(x, [{HUGE}])",
        f"torch.expand(x, [{HUGE}, 2])",
        f"torch.repeat(x, [{HUGE}])",
        f"torch.tile(x, [{HUGE}])",
        f"torch.repeat_interleave(x, {HUGE})",
        "torch.repeat_interleave(x, torch.tensor([9223372036854775807, 9223372036854775807]))",
        f"torch.arange({HUGE})",
        f"torch.arange({HUGE}, 0, -1)",
        "torch.arange(0.0, inf)",
        "torch.arange(0.0, nan)",
        f"torch.linspace(0, 1, {HUGE})",
        "torch.eye(1048576)",
        f"torch.pad(x, [{HUGE}, 0])",
        f"torch.constant_pad_nd(x, [0, {HUGE}], 0)",
        f"torch.one_hot(torch.tensor([1]), {HUGE})",
        "torch.one_hot(torch.tensor([9223372036854775806]))",
        "torch.outer(torch.ones([65536]), torch.ones([65536]))",
        "torch.add(torch.ones([65536, 1]), torch.ones([65536]))",
        "torch.add(a=torch.ones([65536, 1]), b=torch.ones([65536]))",
        "torch.where(torch.ones([65536, 1]), torch.ones([65536]), 1)",
        "torch.matmul(torch.ones([65536, 1]), torch.ones([1, 65536]))",
        "torch.addmm(x, torch.ones([65536, 1]), torch.ones([1, 65536]))",
        "torch.linear(torch.ones([65536, 2]), torch.ones([65536, 2]))",
        "torch.einsum('i,j', [torch.ones([65536]), torch.ones([65536])])",
        "torch.einsum('...i,...j', [torch.ones([65536]), torch.ones([65536])])",
        "torch.scaled_dot_product_attention(torch.ones([65536, 2]), torch.ones([65536, 2]), torch.ones([65536, 2]))",
        f"torch.conv1d(torch.ones([1, 1, 5]), torch.ones([1, 1, 2]), None, [1], [{HUGE}])",
        f"torch.conv1d(torch.ones([1, 1, 5]), torch.ones([1, 1, 2]), None, [1], 'same', [{HUGE}])",
        "torch.index(torch.ones([1, 65536]), [torch.zeros([65536], dtype=4)])",
        "torch.index_select(torch.ones([1, 65536]), 0, torch.zeros([65536], dtype=4))",
        "torch.embedding(torch.ones([1, 65536]), torch.zeros([65536], dtype=4))",
        f"torch.nonzero(torch.ones([9999999{', 1' * 60}]))",
        f"torch.where(torch.ones([9999999{', 1' * 60}]))",
        f"torch.index(torch.ones([9999999{', 1' * 60}, 2]), [torch.ones([9999999{', 1' * 60}], dtype=11)])",
        "torch.prelu(torch.ones([65536, 1]), torch.ones([65536]))",
        "torch.batch_norm(torch.ones([9, 1, 99999]), x, x, torch.ones([99]), torch.ones([99]), False, 0.1, 0.1, False)",
    ],
)
def test_giants_are_not_made(expression: str) -> None:
    script = load(handmade(f"return {expression}"))
    with pytest.raises(InputError, match=r"forward: torch\.\w+ would make an array of more than 33554432 elements"):
        script(np.ones(2, np.float32))
    with pytest.raises(InputError, match=r"forward: torch\.\w+ would make an array of more than 33554432 elements"):
        script.plan("forward", np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True:\n  x = torch.sort(torch.ones([1000000]))\nreturn x", "makes more than 1024 MB"),
        ("y = [x]\nwhile True:\n  y = [y, torch.ones([1000000])]\nreturn y", "makes more than 1024 MB"),
        ("while True:\n  y = [" + "0, " * 5000 + "]\nreturn y", "makes more than 1024 MB"),
        ("y = (" + "0, " * 5000 + ")\nwhile True:\n  z = y[1:]\nreturn y", "makes more than 1024 MB"),
        (
            "y = torch.ones([9999999])\nwhile True:\n  z = torch.max(y)\nreturn y",
            "reads and computes more than 4096 MB",
        ),
        ("y = torch.ones([2048, 2048], dtype=4)\nreturn torch.matmul(y, y)", "reads and computes more than 4096 MB"),
        ("y = torch.ones([999])\nreturn torch.einsum('i,j,k,l->', [y, y, y, y])", "reads and computes more than 4096"),
        ("return torch.mul([1], 1099511627776)", "longer than 65536"),
        ("return torch.mul('ab', 1099511627776)", "longer than 65536"),
        ("return torch.addcmul([], [1], 65536, value=65536)", "torch.addcmul takes neither lists nor texts"),
        ("return torch.rsub([1], [1], 99999999999)", "torch.rsub takes neither lists nor texts"),
        ("return torch.remainder('%1900000000d', 5)", "torch.remainder takes neither lists nor texts"),
        ("return torch.remainder(a='%1900000000d', b=5)", "torch.remainder takes neither lists nor texts"),
        ("return torch.fmod(x, [1])", "torch.fmod takes neither lists nor texts"),
        ("return torch.__derive_index(2147483647, '', 'ab')", "torch.__derive_index takes neither lists nor texts"),
        ("return torch.floordiv([1], 2)", "torch.floordiv takes neither lists nor texts"),
        ("return torch.tensor(['" + "a" * 30000 + "'" + ", 'a'" * 30000 + "])", "takes lists of numbers alone"),
        ("return torch.roll(['a', 'b'], [1])", "takes lists of numbers alone"),
        ("return torch.roll([x, x], [1])", "takes lists of numbers alone"),
        ("return torch.roll([None, 7], [1])", "the result is no tensor of numbers"),
        ("return torch._set_item(x, 0, 1)", "only lists and dicts are given items"),
        ("y = [1]\nfor i in range(60):\n  y = torch.add(y, y)\nreturn y", "longer than 65536"),
        ("y = 'a'\nfor i in range(60):\n  y = torch.add(y, y)\nreturn y", "longer than 65536"),
        ("y = 'a'\nfor i in range(60):\n  y = torch.format('{}{}', y, y)\nreturn y", "longer than 65536"),
        ("y = [1]\nfor i in range(60):\n  torch.extend(y, y)\nreturn y", "longer than 65536"),
        ("y = [1]\nwhile True:\n  z = torch.append(y, 1)\nreturn y", "longer than 65536"),
        ("y = [1]\nfor i in range(60):\n  y = [y, y]\nreturn torch.tensor(y)", "longer than 65536"),
        ("y = [1]\nfor i in range(60):\n  y = [y, y]\nreturn torch.format('{}', y)", "longer than 65536"),
        ("y = [1]\nz = torch.append(y, y)\nreturn torch.eq(y, y)", "longer than 65536"),
        ("return torch.chunk(torch.zeros([0]), 1099511627776)", "longer than 65536"),
        ("return torch.unbind(torch.zeros([99999]))", "longer than 65536"),
        ("return torch.split(torch.zeros([99999]), 1)", "longer than 65536"),
        ("return torch.list(torch.zeros([99999]))", "longer than 65536"),
        ("return torch.format('', [" + "x, " * 100 + "])", "longer than 65536"),
        ("y = 2\nfor i in range(60):\n  y = torch.mul(y, y)\nreturn y", "beyond 64 bits"),
        ("return torch.__lshift__(1, 9999999999)", "shifted by more than 63"),
        ("return torch.__lshift__(1, 63)", "beyond 64 bits"),
        ("return torch.ones([9])[torch.zeros([9999], dtype=4)]", "only lists, tuples and dicts have items"),
        ("return torch.ones([9])[1:2]", "only lists and tuples have parts"),
        ("return torch.tensor({'a': 1})", "a tensor of dict"),
        ("return torch.topk(x, 1099511627776)", "topk: 1099511627776 of"),
        ("return torch.pow(10, 99999)", "Numerical result out of range"),
    ],
)
def test_what_a_call_may_use_up(body: str, message: str) -> None:
    script = load(handmade(body))
    for _ in range(2):  # a call that failed leaves the next its full allowance
        with pytest.raises(InputError, match=f"archive: forward.*{message}"):
            script(np.ones(2, np.float32))


def test_a_call_tree_that_doubles_at_every_level_ends() -> None:
    above = "def g0(x: Tensor) -> Tensor:\n  return x\n"
    for at in range(60):
        above += f"def g{at + 1}(x: Tensor) -> Tensor:\n  y = __torch__.g{at}(x)\n  return __torch__.g{at}(y)\n"
    with pytest.raises(InputError, match="loops more than 1000000 times, or calls as many functions"):
        load(handmade("return __torch__.g60(x)", above=above))(1)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return 0x" + "f" * 9999, "a whole number beyond 64 bits"),
        ("return 9223372036854775808", "a whole number beyond 64 bits"),
    ],
)
def test_giant_literals(body: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        load(handmade(body))
    with pytest.raises(InputError, match="is not TorchScript"):
        load(handmade("return " + "9" * 5000))
    assert load(handmade("return 9223372036854775807"))(0) == 2**63 - 1


@pytest.mark.parametrize("default", ["torch.zeros([2])", "[torch.neg(1)]", "self", "[1][5]", "y", "CONSTANTS.c0"])
def test_defaults_compute_nothing(default: str) -> None:
    with pytest.raises(InputError, match=r"in the default of a parameter \(line 3\), which is not allowed"):
        load(handmade("return x", arguments=f"x: Tensor, y: int={default}"))
    assert load(handmade("return (y, z)", arguments="x: Tensor, y: int=[-1, 2.5], z: float=inf"))(0)[0] == [-1, 2.5]


def test_code_that_python_itself_refuses() -> None:
    nested = "".join(" " * at + "for i in range(1):\n" for at in range(25)) + " " * 25 + "pass\nreturn x"
    for script in (
        handmade("return x", arguments="x: Tensor, x: Tensor"),
        handmade("return torch.add(x, x, alpha=1, alpha=2)"),
        handmade(nested),
    ):
        with pytest.raises(InputError, match="is not TorchScript"):
            load(script)
    with pytest.raises(InputError, match="longer than 1 MB"):
        load(handmade("return [" + "0," * 600_000 + "]"))
    with pytest.raises(InputError, match=r"is not TorchScript|nested too deeply"):
        load(handmade("return x" + ".a" * 100_000))


def test_only_functions_of_the_archive_are_called() -> None:
    above = "def double(x: Tensor) -> Tensor:\n  return torch.add(x, x)\n"
    assert load(handmade("f = __torch__.double\nreturn f(x)", above=above))(4) == 8
    for name in (b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2", b"torch.jit._pickle\nbuild_intlist"):
        state = b"}(X\x01\x00\x00\x00fc" + name + b"\nu"
        for body in ("f = self.f\nreturn f([(1, 2)])", "f = torch.device\nreturn f(x)", "f = x\nreturn f(x)"):
            with pytest.raises(InputError, match=r"what is no function of its own|the unknown name torch"):
                load(handmade(body, state=state))(1)
    with pytest.raises(InputError, match="what is no function of its own"):
        load(handmade("f = self.f\nreturn f()", state=b"}(X\x01\x00\x00\x00fc__torch__\nM\nu"))(1)


@pytest.mark.parametrize(
    "body",
    [
        "return {y: 1}",
        "d = {'a': 1}\nreturn d[y]",
        "d = {'a': 1}\nreturn torch._set_item(d, y, 1)",
        "d = {'a': 1}\nreturn torch.pop(d, y)",
    ],
)
def test_keys_that_double_are_not_looked_up(body: str) -> None:
    script = load(handmade("y = ('a', 'b')\nfor i in range(60):\n  y = (y, y)\n" + body))
    with pytest.raises(InputError, match="the keys of a dict must be texts or numbers"):
        script(1)
    plain = "d = {'a': 1, 2: 3}\ne = torch._set_item(d, 0.5, 4)\nreturn (d['a'], torch.pop(d, 2), d[0.5], torch.len(d))"
    assert load(handmade(plain))(1) == (1, 3, 4, 2)


def test_a_value_repeated_in_no_memory_is_not_converted_at_load() -> None:
    constants = b"(" + repeated("Half", 2**28) + b"t"
    tracemalloc.start()
    script = load(handmade("return torch.to(CONSTANTS.c0, 6)", constants=constants, storage=bytes(2)))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    with pytest.raises(InputError, match=r"torch\.to would make an array of more than 33554432 elements"):
        script(1)


def test_constants_beyond_what_a_script_keeps_are_converted_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "return (torch.to(CONSTANTS.c0, 6), torch.to(CONSTANTS.c0, 7), torch.to(CONSTANTS.c0, 6))"
    constants = b"(" + repeated("Half", 3) + b"t"
    for room, kept in ((0, []), (12, [0]), (36, [0, 1])):
        monkeypatch.setattr(Names, "_room", room)
        script = load(handmade(body, constants=constants, storage=np.float16(1.5).tobytes()))
        first, second = script(1), script(1)
        assert [at for at in range(2) if first[at] is second[at]] == kept
        assert [value.dtype.name for value in first] == ["float32", "float64", "float32"]
        assert all(value.tolist() == [1.5, 1.5, 1.5] for value in first)


def test_a_product_that_is_added_may_be_large() -> None:
    body = "a = torch.ones([8, 64, 64])\nreturn torch.baddbmm(a, a, a)"
    np.testing.assert_array_equal(load(handmade(body))(1), np.full((8, 64, 64), 65, np.float32))
