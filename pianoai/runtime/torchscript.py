"""Runs a TorchScript archive with NumPy: reads it, checks and compiles its code, calls it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pianoai.runtime.archive import Archive
from pianoai.runtime.compiler import Program, parameters
from pianoai.runtime.errors import InputError
from pianoai.runtime.plan import Plan, Turned
from pianoai.runtime.recording import Unrecordable, record

# What code that does not fit its inputs can end in.
FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Script:
    """A loaded archive; call it as you would the module, with arrays for tensors.

    Attributes:
        extra: The archive's extra files by name.
    """

    def __init__(self, archive: Archive, program: Program):
        self.name = archive.name
        self.extra = archive.extra
        self._module = archive.attributes
        self._program = program
        self._turned: Turned = {}
        self.forward = self.method("forward")

    def __call__(self, *inputs: Any) -> Any:
        """The method ``forward``."""
        return self.forward(*inputs)

    def method(self, name: str) -> Callable[..., Any]:
        """An exported method by name; like ``forward`` it takes and gives arrays, numbers and tuples of them.

        Arrays that the model writes into in place are the caller's own, as in PyTorch. The method
        raises InputError when the inputs do not fit the model.
        """
        qualified = f"{self._module.type_name}.{name}"
        if qualified not in self._program.functions:
            raise InputError(f"{self.name}: the model has no method {name}; export it with @torch.jit.export")
        function = self._program.functions[qualified]
        definition = self._program.definitions[qualified]
        names = parameters(definition)
        required = len(names) - len(definition.args.defaults)
        budget, module = self._program.budget, self._module

        def call(*inputs: Any) -> Any:
            if not required <= len(inputs) <= len(names):
                raise InputError(f"{self.name}: {name} takes {', '.join(names)}; it got {len(inputs)} inputs")
            budget.start()
            try:
                # PyTorch says nothing about overflow or division by zero either.
                with np.errstate(all="ignore"):
                    return function(module, *map(_as_given, inputs))
            except InputError as error:
                raise InputError(f"{self.name}: {name}: {error}") from error
            except FAILURES as error:
                raise InputError(f"{self.name}: {name} failed; check its inputs: {error}") from error

        return call

    def has(self, name: str) -> bool:
        """Whether there is a method `name`."""
        return f"{self._module.type_name}.{name}" in self._program.functions

    def plan(self, name: str, *inputs: Any) -> Plan | None:
        """The method `name` for inputs of these shapes, which become the plan's memory; None if it cannot be planned.

        See `pianoai.runtime.plan`. The method has then run on the inputs, and may have changed them.
        """
        qualified = f"{self._module.type_name}.{name}"
        if qualified not in self._program.functions:
            return None
        try:
            with np.errstate(all="ignore"):
                return Plan(record(self._program, qualified, self._module, inputs), self._turned)
        except Unrecordable:
            return None
        except InputError as error:
            raise InputError(f"{self.name}: {name}: {error}") from error
        except FAILURES as error:
            raise InputError(f"{self.name}: {name} failed on inputs of zeros: {error}") from error


def _as_given(value: Any) -> Any:
    """NumPy scalars as 0-dimensional arrays, in tuples and lists too."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_as_given, value))
    return value


def _compile(source: str | Path | bytes) -> tuple[Archive, Program]:
    archive = Archive(source)
    try:
        return archive, Program(archive)
    except RecursionError:
        raise InputError(f"{archive.name}: the model's code is nested too deeply") from None


def load(source: str | Path | bytes) -> Script:
    """The script in an archive, given by path or as bytes.

    Raises InputError for what is no archive, for code that is not allowed, and for operators that are
    missing here: all of them in one message.
    """
    archive, program = _compile(source)
    if program.missing:
        raise InputError(
            f"{archive.name}: the NumPy runtime lacks the operators {', '.join(program.missing)}; "
            "write the model without them"
        )
    return Script(archive, program)


def missing_operators(source: str | Path | bytes) -> list[str]:
    """The operators of an archive that do not run here, sorted; empty if it can be loaded."""
    return _compile(source)[1].missing
