"""Compiles the code of a TorchScript archive into Python functions."""

import ast
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

from pianoai.runtime.archive import Archive, ModuleState
from pianoai.runtime.errors import InputError
from pianoai.runtime.limits import Budget
from pianoai.runtime.operators.promotion import Operator
from pianoai.runtime.operators.values import key
from pianoai.runtime.translation import Names, Writer

LONGEST_CODE = 1024 * 1024  # characters of source: parsing takes a hundred times as many bytes

Compiled = Callable[..., Any]
Wrap = Callable[[str, Operator], Operator]  # an operator's name, the operator -> what to call instead


def parameters(definition: ast.FunctionDef) -> list[str]:
    """The names of a method's parameters, without the module itself."""
    return [argument.arg for argument in definition.args.args[1:]]


class Program:
    """All functions of an archive, compiled.

    Attributes:
        functions: Compiled functions by qualified name, e.g. ``__torch__.Step.forward``.
        definitions: Their syntax trees.
        missing: Names of the operators they call that OPERATORS lacks, sorted.
        budget: What a call may use up; whoever calls a function starts it.
    """

    def __init__(self, archive: Archive):
        self.archive = archive
        self.budget = Budget()
        self.functions: dict[str, Compiled] = {}
        self.definitions: dict[str, ast.FunctionDef] = {}
        self._names = Names(archive.name, archive.constants)
        self._read_definitions()
        self._names.functions = {name: f"f{at}" for at, name in enumerate(sorted(self.definitions))}
        sources = {name: Writer(self._names, name, node).function() for name, node in self.definitions.items()}
        archive.constants = self._names.settle()
        self.missing = sorted(self._names.missing)
        if not self.missing:
            self._compiled = [self._compile(name, source) for name, source in sources.items()]
            self.functions = self.bind(lambda name, operator: operator, lambda state: state)

    def bind(self, wrap: Wrap, attributes: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Compiled]:
        """All functions by qualified name, calling ``wrap(name, operator)`` for every operator.

        `attributes` gives what they see of a module's own.
        """
        names = self._names

        def attributes_of(value: Any) -> Mapping[str, Any]:
            if not isinstance(value, ModuleState):
                raise InputError("only modules have attributes")
            return attributes(value.state)

        def call_method(value: Any, name: str) -> Compiled:
            if not isinstance(value, ModuleState) or f"{value.type_name}.{name}" not in bound:
                raise InputError(f"the model calls {name} on something that has no such method")
            function = bound[f"{value.type_name}.{name}"]
            return lambda *args, **kwargs: function(value, *args, **kwargs)

        def call_value(value: Any) -> Any:
            if type(value) is not FunctionType or value not in own:
                raise InputError("the model calls what is no function of its own")
            return value

        namespace = {
            **names.namespace,
            **{
                python: self.budget.guard(name, wrap(name, names.namespace[python]))
                for name, python in names.operators.items()
            },
            "__builtins__": {},
            "inf": float("inf"),
            "nan": float("nan"),
            "tick": self.budget.tick,
            "counted": self.budget.range,
            "item": self.budget.item,
            "part": self.budget.part,
            "key": key,
            "call_method": call_method,
            "call_value": call_value,
            "attributes": attributes_of,
        }
        for code in self._compiled:
            exec(code, namespace)
        bound: dict[str, Compiled] = {name: namespace[python] for name, python in names.functions.items()}
        own = set(bound.values())
        return bound

    def _compile(self, name: str, source: str) -> CodeType:
        try:
            return compile(source, f"<{name}>", "exec")
        except (SyntaxError, ValueError, MemoryError) as error:
            raise InputError(f"{self.archive.name}: {name} is not TorchScript: {error}") from None

    def _read_definitions(self) -> None:
        if sum(map(len, self.archive.code.values())) > LONGEST_CODE:
            raise InputError(f"{self.archive.name}: its code is longer than {LONGEST_CODE >> 20} MB")
        for module, source in self.archive.code.items():
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                raise InputError(f"{self.archive.name}: {module} is not TorchScript: {error}") from None
            for node in tree.body:
                self._read_definition(module, node)

    def _read_definition(self, module: str, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef(name=name):
                self.definitions[f"{module}.{name}"] = node
            case ast.ClassDef(bases=[ast.Name(id="NamedTuple")], keywords=[], decorator_list=[]):
                pass  # it names a type; code that would make one is refused as an unknown function
            case ast.ClassDef(bases=[ast.Name(id="Module")], keywords=[], decorator_list=[]):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        self.definitions[f"{module}.{node.name}.{member.name}"] = member
                    elif not isinstance(member, ast.Assign | ast.AnnAssign | ast.Pass):
                        raise self._names.refuse(member, type(member).__name__)
            case _:
                raise self._names.refuse(node, type(node).__name__)
