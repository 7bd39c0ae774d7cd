"""Shared by all callers of transformers and PEFT: silence reports, look below PEFT's wrappers, quote errors."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft.utils import ModulesToSaveWrapper
from transformers.utils import logging as hf_logging


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers prints no reports or progress bars; errors are still raised."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Deprecations between libraries are not the user's to fix.
            warnings.simplefilter("ignore", FutureWarning)
            # PEFT 0.19 warns of untied models too.
            warnings.filterwarnings("ignore", ".*ensure_weight_tying.*", UserWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """A context in which a model or module is in eval mode, without dropout."""
    training = model.training
    try:
        if training:
            model.eval()
        yield
    finally:
        if training:
            model.train()


@contextlib.contextmanager
def changed(target: Any, **values: Any) -> Iterator[None]:
    """A context in which attributes of an object, such as a config, have other values.

    What it has from its class, such as a method, is not left behind as its own: `cpu.projection.hooked` looks for that.
    """
    before = {name: getattr(target, name) for name in values}
    of_class = [name for name in values if name not in vars(target)]
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            if name in of_class and name in vars(target):
                delattr(target, name)
            else:
                setattr(target, name, value)


def base_of(model: Any) -> Any:
    """The transformers model itself, without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def active_module(module: Any) -> Any:
    """The module that computes: under PEFT the trained copy, or the original while adapters are off."""
    if not isinstance(module, ModulesToSaveWrapper):
        return module
    off = module.disable_adapters or not module.active_adapters
    return module.original_module if off else module.modules_to_save[module.active_adapters[0]]


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty, else the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def package_folders(name: str) -> list[Path]:
    """The folders of an installed package, which is not imported; empty if it is not installed."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


CALL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a model's own code raises when it is called in a form that it does not support.

Missing attributes and keywords (AttributeError, NameError, LookupError, TypeError), shapes and dtypes (RuntimeError,
ValueError, ArithmeticError), its own checks (AssertionError), an optional kernel (ImportError).
"""
