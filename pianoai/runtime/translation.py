"""Checks the Python-like source of TorchScript against a white list and writes it anew as Python.

Nothing of the archive's text reaches Python: variables become ``v_…``, operators ``o0``, ``o1``, …, functions
``f0``, …, constants ``c0``, …
"""

import ast
import re
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.limits import KEPT
from pianoai.runtime.operators import OPERATORS
from pianoai.runtime.operators.promotion import CODES

CASTS = {"annotate", "unchecked_cast"}
PLAIN = {"int", "float", "bool"}
PLAIN_NODES = ast.Constant | ast.UnaryOp | ast.USub | ast.List | ast.Tuple | ast.Load
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Names:
    """What the code of one archive may name, and what Python calls it.

    Attributes:
        functions: Functions of the archive, to be filled in before any is written.
        namespace: Operators and constants by their Python names.
        operators: Python names of operators by their own.
        missing: Operators that the code calls and OPERATORS lacks.
    """

    _room = KEPT  # bytes of converted constants that may still be made

    def __init__(self, archive: str, constants: tuple[Any, ...]):
        self.archive = archive
        self.constants = constants
        self.functions: dict[str, str] = {}
        self.namespace: dict[str, Any] = {}
        self.missing: set[str] = set()
        self.operators: dict[str, str] = {}

    def settle(self) -> tuple[Any, ...]:
        """The constants that the code uses, in the end; the others need not stay in memory."""
        self.constants = tuple(value for name, value in self.namespace.items() if name.startswith("c"))
        return self.constants

    def refuse(self, node: ast.AST, what: str) -> InputError:
        """The error for code that is not allowed."""
        line = getattr(node, "lineno", 0)
        return InputError(f"{self.archive}: the model's code has {what} (line {line}), which is not allowed")

    def operator(self, name: str) -> str:
        """The Python name of an operator; one that is missing is remembered."""
        if name not in OPERATORS:
            self.missing.add(name)
            return "missing"
        python_name = self.operators.setdefault(name, f"o{len(self.operators)}")
        self.namespace[python_name] = OPERATORS[name]
        return python_name

    def constant(self, node: ast.Attribute) -> str:
        """The Python name of ``CONSTANTS.c0``, …"""
        self.namespace[node.attr] = self._value(node)
        return node.attr

    def _value(self, node: ast.Attribute) -> Any:
        index = node.attr[1:]
        if node.attr[:1] != "c" or not index.isdecimal() or int(index) >= len(self.constants):
            raise self.refuse(node, f"the constant {node.attr}, which constants.pkl lacks")
        return self.constants[int(index)]

    def converted(self, node: ast.Attribute, code: int) -> str | None:
        """The Python name of a constant tensor in the dtype that PyTorch numbers `code`, converted here and now.

        None for what is no tensor, and when all that is converted would take more than KEPT.
        """
        value = self._value(node)
        if not isinstance(value, np.ndarray) or code not in CODES:
            return None
        converted = f"{node.attr}_{code}"
        if converted not in self.namespace:
            if value.dtype != CODES[code]:
                if value.size * CODES[code].itemsize > self._room:
                    return None
                self._room -= value.size * CODES[code].itemsize
            self.namespace[converted] = value.astype(CODES[code], copy=False)
            self.namespace[converted].flags.writeable = False
        return converted

    def reference(self, name: str, node: ast.AST) -> str:
        """The Python name of another function of the archive."""
        if name not in self.functions:
            raise self.refuse(node, f"the unknown function {name}")
        return self.functions[name]


class Writer:
    """Writes the Python source of one function."""

    def __init__(self, names: Names, name: str, definition: ast.FunctionDef):
        self._names, self._name, self._definition = names, name, definition
        self._lines: list[str] = []
        self._locals: set[str] = set()

    def _refuse(self, node: ast.AST, what: str) -> InputError:
        return self._names.refuse(node, what)

    def function(self) -> str:
        """The whole function; raises InputError for what is not on the white list."""
        arguments = self._definition.args
        odd = arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg
        if odd or self._definition.decorator_list:
            raise self._refuse(self._definition, "an unusual function")
        names = [self._store(argument.arg, argument) for argument in arguments.args]
        defaults = [self._default(default) for default in arguments.defaults]
        plain = len(names) - len(defaults)
        written = names[:plain] + [f"{n}={d}" for n, d in zip(names[plain:], defaults, strict=True)]
        python_name = self._names.reference(self._name, self._definition)
        self._lines = [f"def {python_name}({', '.join(written)}):", ""]
        self._declare(self._definition.body)
        self._block(self._definition.body, 1)
        self._lines[1] = f" tick({self._length(1)})"
        return "\n".join(self._lines)

    def _default(self, node: ast.expr) -> str:
        """A default is computed when the archive is loaded, so it may be a number, a text or a list of such alone."""
        for inner in ast.walk(node):
            if not isinstance(inner, PLAIN_NODES) and not (isinstance(inner, ast.Name) and inner.id in ("inf", "nan")):
                raise self._refuse(node, f"{type(inner).__name__} in the default of a parameter")
        return self._expression(node)

    def _length(self, start: int) -> int:
        """Of the code written since line `start`."""
        return sum(map(len, self._lines[start:]))

    def _checked(self, name: str, node: ast.AST) -> str:
        if not IDENTIFIER.fullmatch(name) or name.startswith("__"):
            raise self._refuse(node, f"the name {name}")
        return name

    def _store(self, name: str, node: ast.AST) -> str:
        self._locals.add(self._checked(name, node))
        return f"v_{name}"

    def _declare(self, body: list[ast.stmt]) -> None:
        """Every variable that is assigned somewhere, because code may stand before its assignment in a loop."""
        for node in body:
            match node:
                case ast.Assign(targets=targets):
                    for target in targets:
                        self._target(target)
                case ast.AnnAssign(target=ast.Name() as target):
                    self._target(target)
                case ast.If(body=inner, orelse=orelse):
                    self._declare(inner)
                    self._declare(orelse)
                case ast.While(body=inner):
                    self._declare(inner)
                case ast.For(target=ast.Name() as target, body=inner):
                    self._target(target)
                    self._declare(inner)

    def _block(self, body: list[ast.stmt], depth: int) -> None:
        for statement in body:
            self._statement(statement, depth)

    def _statement(self, node: ast.stmt, depth: int) -> None:
        write = self._write
        match node:
            case ast.Assign(targets=[target], value=value):
                write(depth, f"{self._target(target)} = {self._expression(value)}")
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                write(depth, f"{self._target(target)} = {self._expression(value)}")
            case ast.Expr(value=ast.Call() as value):
                write(depth, self._expression(value))
            case ast.Return(value=value):
                write(depth, f"return {'None' if value is None else self._expression(value)}")
            case ast.Pass():
                write(depth, "pass")
            case ast.If(test=test, body=body, orelse=orelse):
                write(depth, f"if {self._expression(test)}:")
                self._block(body, depth + 1)
                if orelse:
                    write(depth, "else:")
                    self._block(orelse, depth + 1)
            case ast.While(test=test, body=body, orelse=[]):
                self._loop(f"while {self._expression(test)} and tick(", body, depth)
            case ast.For(
                target=ast.Name() as target,
                iter=ast.Call(func=ast.Name(id="range"), args=[count], keywords=[]),
                body=body,
                orelse=[],
            ):
                self._loop(f"for {self._target(target)} in counted({self._expression(count)}, ", body, depth)
            case _:
                raise self._refuse(node, type(node).__name__)

    def _loop(self, head: str, body: list[ast.stmt], depth: int) -> None:
        """A loop whose `head` lacks the length of its code at the end."""
        start = len(self._lines)
        self._write(depth, head)
        self._block(body, depth + 1)
        self._lines[start] += f"{self._length(start)}):"

    def _write(self, depth: int, line: str) -> None:
        # Nesting deeper than this is nothing that torch writes, and Python's own limit is near.
        if depth > 60:
            raise self._refuse(self._definition, "blocks nested deeper than 60")
        self._lines.append(" " * depth + line)

    def _target(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return self._store(name, node)
            case ast.Tuple(elts=elements) if elements:
                return "(" + "".join(f"{self._target(element)}, " for element in elements) + ")"
            case ast.Attribute(value=value, attr=name):
                return f"attributes({self._expression(value)})[{self._checked(name, node)!r}]"
            case _:
                raise self._refuse(node, f"an assignment to {type(node).__name__}")

    def _expression(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int() as value) if value >= 2**63:
                raise self._refuse(node, "a whole number beyond 64 bits")
            case ast.Constant(value=bool() | int() | str() | None as value):
                return repr(value)
            case ast.Constant(value=float() as value):
                return f"({value!r})"
            case ast.Name(id="inf" | "nan" as name):
                return name
            case ast.Name(id=name):
                if name not in self._locals:
                    raise self._refuse(node, f"the unknown name {name}")
                return f"v_{name}"
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float()) | ast.Name() as operand):
                return f"(-{self._expression(operand)})"
            case ast.Tuple(elts=elements):
                return "(" + "".join(f"{self._expression(element)}, " for element in elements) + ")"
            case ast.List(elts=elements):
                return "[" + ", ".join(map(self._expression, elements)) + "]"
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                items = [f"key({self._expression(k)}): {self._expression(v)}" for k, v in pairs if k is not None]
                if len(items) < len(keys):
                    raise self._refuse(node, "a starred dict")
                return "{" + ", ".join(items) + "}"
            case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=None)):
                ends = ["None" if end is None else self._expression(end) for end in (lower, upper)]
                return f"part({self._expression(value)}, {ends[0]}, {ends[1]})"
            case ast.Subscript(value=value, slice=index):
                return f"item({self._expression(value)}, {self._expression(index)})"
            case ast.Attribute(value=ast.Name(id="CONSTANTS")):
                return self._names.constant(node)
            case ast.Attribute(value=value, attr=name):
                path = self._path(node)
                if path and path.startswith("__torch__."):
                    return self._names.reference(path, node)
                return f"attributes({self._expression(value)})[{self._checked(name, node)!r}]"
            case ast.Call():
                return self._call(node)
            case _:
                raise self._refuse(node, type(node).__name__)

    def _path(self, node: ast.expr) -> str | None:
        """``torch.add`` as text, if `node` is such a chain of names that begins at no variable."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self._locals:
            return None
        return ".".join([node.id, *reversed(names)])

    def _call(self, node: ast.Call) -> str:
        path = self._path(node.func)
        if path in CASTS and len(node.args) == 2 and not node.keywords:
            return self._expression(node.args[1])
        if path == "uninitialized":
            return "None"
        if path == "torch.to" and not node.keywords:
            match node.args:
                case [ast.Attribute(value=ast.Name(id="CONSTANTS")) as constant, ast.Constant(value=int(code)), *rest]:
                    # The rest says whether to copy, which a constant need not be.
                    if all(isinstance(each, ast.Constant) and not each.value for each in rest):
                        converted = self._names.converted(constant, code)
                        if converted is not None:
                            return converted
        if path == "getattr":
            match node.args:
                case [module, ast.Constant(value=str() as name)] if not name.startswith("__"):
                    return f"attributes({self._expression(module)})[{name!r}]"
            raise self._refuse(node, "an unusual getattr")
        arguments = [self._expression(argument) for argument in node.args]
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._refuse(node, "starred arguments")
            arguments.append(f"{self._checked(keyword.arg, node)}={self._expression(keyword.value)}")
        joined = ", ".join(arguments)
        if path is not None:
            if path.startswith("__torch__."):
                return f"{self._names.reference(path, node)}({joined})"
            if path.startswith(("torch.", "ops.")) or path in PLAIN:
                return f"{self._names.operator(path)}({joined})"
            raise self._refuse(node, f"a call of {path}")
        match node.func:
            case ast.Attribute(value=value, attr=name):
                if name != "__len__":
                    self._checked(name, node)
                method = f"call_method({self._expression(value)}, {name!r})"
                return f"{method}({joined})"
            case ast.Name(id=name):
                return f"call_value(v_{name})({joined})"
            case _:
                raise self._refuse(node, "a call of an expression")
