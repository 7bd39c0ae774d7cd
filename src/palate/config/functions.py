"""User functions, named `module:function` or `file.py:function` in a config or on the command line."""

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
    """The named function; modules are also looked for in the current folder.

    Args:
        name: `module:function` or `path/to/file.py:function`.
        key: the config key or option, for messages.

    Returns:
        The function. An exception in it becomes a FunctionError that names the line.

    Raises:
        ConfigError: there is no such module or function, or importing the module fails.
    """
    if not names_function(name):
        raise ConfigError(f"{key}: {name}: write module:function or file.py:function")
    source, _, attribute = name.rpartition(":")
    if source.endswith(".py") and not Path(source).is_file():
        raise ConfigError(f"{key}: there is no file {source}")
    try:
        module = _import_file(source) if source.endswith(".py") else _import_module(source)
    except Exception as error:  # importing a user's module may raise anything
        raise ConfigError(f"{key}: {source} cannot be imported: {_one_line(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [other for other in vars(module) if callable(getattr(module, other)) and not other.startswith("_")]
        has = f"; it has {', '.join(sorted(known)[:8])}" if known else ""
        raise ConfigError(f"{key}: {source} has no function {attribute}{has}")
    return guarded(function, name, key)


def guarded(function: Callable[..., Any], name: str, key: str) -> Callable[..., Any]:
    """A user's function whose exceptions become a FunctionError that names it and the line."""

    @functools.wraps(function)  # keeps the signature, from which callers read the parameters
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except PalateError:
            raise
        except Exception as error:  # a user's function may raise anything
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            raise FunctionError(f"{key}: {name} failed in {where}: {_one_line(error)}") from error

    return called


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    # Unlike `python -m`, the `palate` script does not have the current folder on its path.
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _import_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"palate_user_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
