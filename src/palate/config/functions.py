"""A user's own function, named `module:function` or `file.py:function` in a config or on the command line."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from palate.errors import ConfigError, FunctionError, PalateError


def names_function(name: str) -> bool:
    """Whether a text has the form `module:function` or `file.py:function`."""
    module, colon, function = name.rpartition(":")
    form = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    return bool(colon and module and form and function.isidentifier())


def load_function(name: str, key: str) -> Callable[..., Any]:
    """The function that `name` stands for; modules are also looked for in the folder in which the command runs.

    Args:
        name: `module:function` or `path/to/file.py:function`.
        key: the config key or option, for messages.

    Returns:
        The function; what it raises when it is called comes out as one FunctionError that names the line.

    Raises:
        ConfigError: there is no such module or function, or the module fails when it is imported.
    """
    if not names_function(name):
        raise ConfigError(f"{key}: {name}: write module:function or file.py:function")
    place, _, attribute = name.rpartition(":")
    module = _file(place, key) if place.endswith(".py") else _module(place, key)
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [other for other in vars(module) if callable(getattr(module, other)) and not other.startswith("_")]
        has = f"; it has {', '.join(sorted(known)[:8])}" if known else ""
        raise ConfigError(f"{key}: {place} has no function {attribute}{has}")
    return _guarded(function, name, key)


def _guarded(function: Callable[..., Any], name: str, key: str) -> Callable[..., Any]:
    @functools.wraps(function)  # so that its signature can be read
    def called(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except PalateError:
            raise
        except Exception as error:  # a boundary: a user's function may fail in any way
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            raise FunctionError(f"{key}: {name} failed in {where}: {_said(error)}") from error

    return called


def _module(name: str, key: str) -> ModuleType:
    here = str(Path.cwd())
    # The `palate` script, unlike `python -m`, does not look into the current folder by itself.
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a boundary: a user's module may fail in any way while it is imported
        raise ConfigError(f"{key}: {name} cannot be imported: {_said(error)}") from error


def _file(path: str, key: str) -> ModuleType:
    if not Path(path).is_file():
        raise ConfigError(f"{key}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"palate_user_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the same boundary
        raise ConfigError(f"{key}: {path} cannot be imported: {_said(error)}") from error
    return module


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
