"""Value types of config keys: those that can be written in several ways, and paths.

`~` and variables in paths are expanded once, when the config is read. A relative path stays relative to the folder in
which the command runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import inf, isfinite
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from palate.config.base import truth

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w+)\})")
# Prefixes of rewards and judges that are followed by a path.
_PATH_PREFIXES = ("lexicon",)


def expand(text: str) -> str:
    """A path with `~`, `~user`, `$RUNS` and `${RUNS}` expanded; any other text unchanged.

    Raises:
        ValueError: a variable is not set, or there is no such user.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise ValueError(f"{text}: the environment variable {name} is not set; set it, or write the path out")
        return os.environ[name]

    path = _VARIABLE.sub(value, text)
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser drops a trailing slash
    if expanded.startswith("~"):
        raise ValueError(f"{text}: there is no home folder {path.partition('/')[0]}; write the path out")
    return expanded


def expand_names(dataset: str | list[str] | dict[str, float]) -> str | list[str] | dict[str, float]:
    """`expand` for a name, names with commas, a list of names, or names with weights."""
    if isinstance(dataset, str):
        parts = ((part, part.lstrip()) for part in dataset.split(","))
        return ",".join(part[: len(part) - len(name)] + expand(name) for part, name in parts)
    if isinstance(dataset, Mapping):
        return {expand(name): weight for name, weight in dataset.items()}
    return [expand(name) for name in dataset]


def expand_named(name: str) -> str:
    """`expand` for the name of a function, reward, judge or folder: `~/r.py:score`, `lexicon:~/words.txt`."""
    prefix, colon, path = name.partition(":")
    return f"{prefix}:{expand(path)}" if colon and prefix in _PATH_PREFIXES else expand(name)


def _expand_keys(numbers: dict[str, int] | None) -> dict[str, int] | None:
    return numbers and {expand(name): number for name, number in numbers.items()}


def _split(value: Any) -> Any:
    """`a, b` and `[a, b]` are the same list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _all_or_list(value: Any) -> Any:
    return "all" if value in ("all", ["all"]) else _split(value)


def _word(true: str | None, false: str, written: Any) -> BeforeValidator:
    """Words of a key for a truth value: `no`, `off` and `false` mean `false`; `yes`, `on` and `true` mean `true`.

    Args:
        written: the type of the key's own words, for the JSON schema.
    """

    def words(value: Any) -> Any:
        switch = truth(value)
        if switch is None or (switch and true is None):
            return value
        return true if switch else false

    return BeforeValidator(words, json_schema_input_type=written | bool)


def _trackers(value: Any) -> Any:
    if value is None or truth(value) is False or value in ("none", ["none"]):
        return []
    return _split(value)


def _steps(least: int) -> BeforeValidator:
    """A number of steps, or below 1 a share of all steps; one message for both."""

    def check(value: Any) -> Any:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return value
        if isfinite(number) and not 0 < number < 1 and (number < least or number != int(number)):
            raise ValueError(f"must be a whole number of steps (at least {least}) or a share of all steps below 1")
        return value

    return BeforeValidator(check)


def _dataset(value: Any) -> Any:
    """A name, names with commas (`palate.data` splits them: a path may have a comma), a list, or weights by name."""
    if isinstance(value, dict):
        for name, weight in value.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < inf:
                raise ValueError(f"the weight of dataset {name} must be a number above 0, not {weight}")
    if value in ({}, [], ""):
        raise ValueError("dataset is empty; name a file, folder, hub id or built-in set")
    if not isinstance(value, str | dict) and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        raise ValueError(f"dataset must be a name, a list of names, or a mapping of name to weight, not {value}")
    return value


def _labels(value: Any) -> Any:
    """Labels and their meanings as text: YAML reads 0 as a number and true as a truth value."""

    def text(part: Any, null: str) -> str:
        return null if part is None else str(part).lower() if isinstance(part, bool) else str(part)

    if not isinstance(value, dict):
        return value
    return {text(key, "null"): text(meaning, "none") for key, meaning in value.items()}


Names: TypeAlias = Annotated[list[str], BeforeValidator(_split, json_schema_input_type=str | list[str])]
LoraTarget: TypeAlias = Annotated[
    Literal["all"] | list[str], BeforeValidator(_all_or_list, json_schema_input_type=str | list[str])
]
Labels: TypeAlias = Annotated[dict[str, str], BeforeValidator(_labels, json_schema_input_type=dict[str, Any])]
_Tracker: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "trackio"]
_TrackerWords: TypeAlias = _Tracker | Literal["none"]
Trackers: TypeAlias = Annotated[
    list[_Tracker],
    BeforeValidator(_trackers, json_schema_input_type=_TrackerWords | str | bool | list[_TrackerWords] | None),
]
_When: TypeAlias = Literal["no", "steps", "epoch"]
_AutoOrOff: TypeAlias = Literal["auto", "off"]
_Action: TypeAlias = Literal["warn", "stop", "off"]
When: TypeAlias = Annotated[_When, _word("steps", "no", _When)]
AutoOrOff: TypeAlias = Annotated[_AutoOrOff, _word("auto", "off", _AutoOrOff)]
HealthAction: TypeAlias = Annotated[_Action, _word(None, "off", _Action)]

# Steps between two events, or below 1 a share of all steps.
Interval: TypeAlias = Annotated[Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)], _steps(least=1)]
Warmup: TypeAlias = Annotated[Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)], _steps(least=0)]

# Text that may be a path. A hub id has neither `~` nor a variable and stays as it is.
PathText: TypeAlias = Annotated[str, AfterValidator(expand)]
PathTexts: TypeAlias = Annotated[str | list[str], AfterValidator(expand_names)]
AutoOffOrPath: TypeAlias = Annotated[str, _word("auto", "off", str), AfterValidator(expand)]
Dataset: TypeAlias = Annotated[
    str | list[str] | dict[str, float], BeforeValidator(_dataset), AfterValidator(expand_names)
]
RowCaps: TypeAlias = Annotated[dict[str, Annotated[int, Field(ge=1)]] | None, AfterValidator(_expand_keys)]
# A reward, a judge or a function: `module:function`, `~/file.py:function`, `lexicon:~/words.txt`, a folder.
NamedOrPath: TypeAlias = Annotated[str, AfterValidator(expand_named)]
