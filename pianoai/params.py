"""Reads a section of params.yaml into the frozen dataclass that stands beside the code it configures."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pianoai.runtime.errors import InputError

PARAMS = Path("params.yaml")
T = TypeVar("T")


def bounded(*, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field whose value is checked when it is read: inclusive bounds, or choices."""
    return dataclasses.field(metadata={"least": least, "most": most, "choices": choices})


def read(section: str, kind: type[T], path: Path = PARAMS) -> T:
    """The section `section` of `path` as a `kind`, a dataclass without defaults.

    Types are checked, never guessed: a whole number will do where a float is wanted, and nothing
    else is converted. Raises InputError that names the key: missing, unknown, of a wrong type,
    out of range, or refused by the dataclass itself (`__post_init__` raises InputError with a
    message that begins with the key inside the section).
    """
    try:
        document = YAML(typ="safe").load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the root of the project") from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or section not in document:
        raise InputError(f"{path}: the section '{section}' is missing")
    return build(section, kind, document[section], str(path))


def build(key: str, kind: type[T], values: object, source: str) -> T:
    """A `kind` from a mapping; `key` and `source` are how messages call it. Raises like `read`."""
    if not isinstance(values, dict):
        raise InputError(f"{source}: {key} must be a section with keys, not {values!r}")
    hints = get_type_hints(kind)
    names = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise InputError(f"{source}: {key}.{name} is unknown; {key} has {', '.join(names)}")
    checked: dict[str, object] = {}
    for name, field in names.items():
        if name not in values:
            raise InputError(f"{source}: {key}.{name} is missing")
        checked[name] = _check(f"{key}.{name}", hints[name], values[name], field.metadata, source)
    try:
        return kind(**checked)
    except InputError as error:
        raise InputError(f"{source}: {key}.{error}") from None


_SPOKEN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _check(key: str, kind: Any, value: Any, limits: Any, source: str) -> object:
    if dataclasses.is_dataclass(kind):
        return build(key, kind, value, source)  # type: ignore[arg-type]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"{source}: {key} must be {_SPOKEN[kind]}, not {value!r}")
    choices = limits.get("choices")
    if choices and value not in choices:
        raise InputError(f"{source}: {key} must be one of {', '.join(choices)}, not {value!r}")
    least, most = limits.get("least"), limits.get("most")
    # Written so that nan, which compares false with everything, is out of range.
    if not (least is None or value >= least) or not (most is None or value <= most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{source}: {key} must be {bounds}, not {value!r}")
    return value
