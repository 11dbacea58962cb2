"""Records what a straight-line function computes: its operator calls on arrays that stay where they are.

The function runs once. The arrays it made then become the memory of every later run, so views need no work at
all, and whatever does not depend on the inputs is computed once and for all.
"""

from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from pianoai.runtime.archive import ModuleState
from pianoai.runtime.compiler import Program
from pianoai.runtime.limits import weigh
from pianoai.runtime.operators import OPERATORS
from pianoai.runtime.operators.promotion import Array, Operator

LONGEST = 20_000  # calls
LONGEST_RESULT = 1000  # items
LONGEST_WALK = 1_000_000  # arguments of all calls, those in lists included
LARGEST = 32 * 2**20  # bytes of results

# Operators whose results tell of shapes and types alone, which stay what they are.
ABOUT = {
    "torch.size",
    "torch.dim",
    "torch.numel",
    "torch.len",
    "torch.is_floating_point",
    "torch.__is__",
    "torch.__isnot__",
    "ops.prim.device",
    "ops.prim.dtype",
    "ops.prim.shape",
    "ops.prim.requires_grad",
}
LIKE = {f"torch.{kind}_like" for kind in ("zeros", "ones", "full", "empty")}
LIKE |= {f"torch.new_{kind}" for kind in ("zeros", "ones", "full", "empty")}
SHAPED_LIKE = {"torch.expand_as", "torch.view_as", "torch.type_as"}
# Operators whose results' shapes depend on values.
SHAPED_BY_VALUES = {"torch.masked_select", "torch.nonzero", "torch.one_hot", "torch.repeat_interleave", "torch.arange"}


MASKS = (np.dtype(bool), np.dtype(np.uint8))
# Operators that change a list or a dict.
CHANGES = {"torch.append", "torch._set_item", "torch.extend", "torch.pop"}


class Unrecordable(Exception):
    """The function does what cannot be repeated blindly: it branches on values, or changes what it was given."""


@dataclass
class Call:
    """One call of an operator."""

    name: str
    function: Operator
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def inputs(self) -> list[Array]:
        """The arrays among the arguments."""
        return arrays((self.args, *self.kwargs.values()))


@dataclass
class Recording:
    """The calls of one run whose results depend on the inputs, in order; every array in them stays valid."""

    inputs: list[Array]
    outputs: list[Array] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    live: set[int] = field(default_factory=set)  # identities of the owners of what depends on the inputs


def arrays(value: Any) -> list[Array]:
    """All arrays in nested lists and tuples."""
    if type(value) is np.ndarray:
        return [value]
    found: list[Array] = []
    if isinstance(value, list | tuple):
        for part in value:
            if type(part) is np.ndarray:
                found.append(part)
            elif isinstance(part, list | tuple):
                found += arrays(part)
    return found


def owner(array: Array) -> Array:
    """The array whose memory this one looks at."""
    while type(array.base) is np.ndarray:
        array = array.base
    return array


def writes(name: str) -> bool:
    """Whether an operator writes into its first argument."""
    return name.endswith("_") and not name.endswith("__")


def record(program: Program, method: str, module: Any, inputs: Any) -> Recording:
    """A run of `method` on `inputs`, nested tuples of arrays, which become the memory of the inputs.

    Where nothing later reads what ``index_copy`` was given, it writes in place. Raises Unrecordable.
    """
    first = _Recorder(program, set())
    found = first.run(method, module, inputs)
    overwritten = first.overwritten(found)
    if not overwritten:
        return found
    second = _Recorder(program, overwritten)
    again = second.run(method, module, inputs)
    return found if second.conflict else again


class _Recorder:
    def __init__(self, program: Program, overwritten: set[int]):
        self._program, self._overwritten = program, overwritten
        self._numbers: list[int] = []  # of the recorded calls, among all
        self._count = 0
        self._bytes = 0
        self._walked = 0
        self._calls: list[Call] = []
        self._kept: list[Any] = []  # keeps the identities below from being used anew
        self._live: set[int] = set()  # owners of what depends on the inputs
        self._made: set[int] = set()  # owners of what does not, made in this run
        self._lasting: set[int] = set()  # lists, tuples and dicts that were there before this run
        self._used: set[int] = set()  # owners of what recorded calls read
        self._given: set[int] = set()  # owners of the inputs
        self._joined: list[Array] = []  # what cat gave that is no copy
        self.conflict = False  # whether one of them was written into afterwards

    def run(self, method: str, module: Any, inputs: Any) -> Recording:
        found = Recording(arrays(inputs), [], self._calls, self._live)
        self._given = {id(owner(array)) for array in found.inputs}
        if any(np.may_share_memory(a, b) for a, b in combinations(found.inputs, 2)):
            raise Unrecordable("two inputs are the same memory")
        self._kept.append((module, self._program.archive.constants, inputs))
        self._lasting = _containers(self._kept[0], set())
        self._live |= self._given
        functions = self._program.bind(self._wrap, MappingProxyType)
        self._program.budget.start()
        try:
            result = functions[method](module, *inputs)
        except TypeError as error:  # assigning an attribute of the module ends here
            raise Unrecordable(str(error)) from error
        if weigh(result)[0] > LONGEST_RESULT or isinstance(result, dict):
            raise Unrecordable("too many results, or by name")
        found.outputs = arrays(result)
        return found

    def overwritten(self, found: Recording) -> set[int]:
        """The numbers of the ``index_copy`` calls whose first argument nothing reads afterwards."""
        if any(writes(call.name) for call in found.calls):
            return set()
        later = list(found.outputs)
        numbers: set[int] = set()
        if sum(call.name == "torch.index_copy" for call in found.calls) * len(found.calls) > LONGEST_WALK:
            return numbers
        for number, call in zip(reversed(self._numbers), reversed(found.calls), strict=True):
            target = call.args[0] if call.name == "torch.index_copy" else None
            if target is not None and target.flags.writeable and id(owner(target)) in self._live:
                numbers |= set() if any(np.may_share_memory(target, x) for x in later) else {number}
            later += call.inputs()
        return numbers

    def _wrap(self, name: str, operator: Operator) -> Operator:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            if self._count in self._overwritten:
                self.conflict |= any(np.may_share_memory(args[0], whole) for whole in self._joined)
                return self._call(f"{name}_", OPERATORS[f"{name}_"], args, kwargs)
            if name in CHANGES and (not args or id(args[0]) in self._lasting):
                raise Unrecordable("the function changes what it was given")
            if writes(name):
                self._prepare(args, kwargs)
            if self._overwritten and name == "torch.cat":
                whole = _whole(args[0])
                if whole is not None and id(whole) in self._live:
                    self._joined.append(whole)
                    return whole
            return self._call(name, operator, args, kwargs)

        return call

    def _call(self, name: str, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._walked += weigh((args, *kwargs.values()))[0]
        if self._walked > LONGEST_WALK:
            raise Unrecordable("its lists are too long")
        owners = [id(owner(array)) for array in arrays((args, *kwargs.values()))]
        depends = any(each in self._live for each in owners)
        result = operator(*args, **kwargs)
        self._kept.append((args, kwargs, result))
        found = arrays(result)
        if not depends or (name in LIKE and not any(id(owner(x)) in self._live for x in arrays(args[1:]))):
            self._made.update(id(owner(array)) for array in found)
            return result
        if name in ABOUT or name in CHANGES:
            return result
        masked = name == "torch.index" and any(index.dtype in MASKS for index in arrays(args[1]))
        if not found or masked or name in SHAPED_BY_VALUES or (name == "torch.where" and len(args) == 1):
            raise Unrecordable(f"{name} depends on values")
        if not writes(name) and not self._looks(name, found, owners):
            return result
        self._hold(sum(array.nbytes for array in found))
        self._live.update(id(owner(array)) for array in found)
        self._used.update(owners)
        self._numbers.append(self._count)
        # The function may change its lists later.
        self._calls.append(Call(name, operator, _copied(args), kwargs, result))
        return result

    def _hold(self, count: int) -> None:
        """Counts a call that needs memory of `count` bytes."""
        self._bytes += count
        if len(self._calls) >= LONGEST or self._bytes > LARGEST:
            raise Unrecordable("too long, or its results too large")

    def _looks(self, name: str, found: list[Array], owners: list[int]) -> bool:
        """Whether a result is new memory; a view is not, and must not lie where a value says."""
        old = [id(owner(array)) in owners for array in found]
        if not any(old):
            return True
        if not all(old) or (owners[0] not in self._live and name not in SHAPED_LIKE):
            raise Unrecordable(f"{name} looks at a part that depends on values")
        if any(each in self._live for each in owners[1:]) and name not in SHAPED_LIKE:
            raise Unrecordable(f"{name} looks at a part that depends on values")
        return False

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before an array is written into: what a run begins with must be there again in the next."""
        whole = owner(args[0])
        if id(whole) in self._live and id(whole) not in self._given:
            return
        if id(whole) not in self._made or id(whole) in self._used:
            raise Unrecordable("the function changes what it was given")
        if any(id(owner(array)) in self._live for array in arrays((args, *kwargs.values()))):
            self._hold(whole.nbytes)
            start = whole.copy()
            self._live.add(id(whole))
            self._numbers.append(self._count)
            self._calls.append(Call("torch.copy_", OPERATORS["torch.copy_"], (whole, start), {}, whole))


def _copied(value: Any) -> Any:
    """Nested lists and tuples anew, with the same items."""
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def _containers(value: Any, found: set[int]) -> set[int]:
    """The identities of all lists, dicts and modules in a value."""
    if isinstance(value, ModuleState):
        value = value.state
    if isinstance(value, list | tuple | dict) and id(value) not in found:
        found.add(id(value))
        for part in value.values() if isinstance(value, dict) else value:
            _containers(part, found)
    return found


def _whole(parts: list[Array]) -> Array | None:
    """The array that `parts` are the stretches of, if they are all of it in order."""
    whole = owner(parts[0])
    if whole.ndim != 1 or whole.size != sum(part.size for part in parts):
        return None
    end = whole.__array_interface__["data"][0]
    for part in parts:
        if part.ndim != 1 or part.dtype != whole.dtype or part.__array_interface__["data"][0] != end:
            return None
        if not part.flags.c_contiguous:
            return None
        end += part.nbytes
    return whole if whole.flags.c_contiguous else None
