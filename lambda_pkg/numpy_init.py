"""Stands in the zip for ``numpy/__init__.py``: NumPy's core at once, anything else when it is first asked for.

NumPy's own file imports all of its parts: half of the time and a sixth of the memory that importing it takes.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# Docstrings that nobody reads here: NumPy lets their modules be replaced, and they take some 20 ms of a start.
for _name in ("_add_newdocs", "_add_newdocs_scalars"):
    sys.modules.setdefault(f"numpy._core.{_name}", ModuleType(_name))

# isort: off
from numpy._globals import _CopyMode, _NoValue  # noqa: E402, F401  # the core wants them
from numpy._core import *  # noqa: E402, F403
from numpy.version import __version__  # noqa: E402, F401
# isort: on

PARTS = {"dtypes", "exceptions", "lib", "linalg", "matrixlib", "strings"}


def __getattr__(name: str) -> Any:
    """A part of NumPy, or what one of the modules of `numpy.lib` and `numpy.matrixlib` has. Raises AttributeError.

    NumPy's code in C asks here too (for `matrix` in every ``outer``) and does not bear that a name is missing.
    """
    if not name.startswith("_"):
        lib = import_module("numpy.lib")  # before numpy.linalg, which cannot be imported on its own
        if name in PARTS:
            return import_module(f"numpy.{name}")
        for module in (*vars(lib).values(), import_module("numpy.matrixlib")):
            if name in getattr(module, "__all__", ()):
                return getattr(module, name)
    raise AttributeError(f"numpy has no {name} here; lambda_pkg/numpy_init.py says what it has")
