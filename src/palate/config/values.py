"""The few value types that YAML users write in more than one way."""

from __future__ import annotations

from math import inf, isfinite
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from palate.config.base import truth
from palate.config.paths import expand, expand_named, expand_names


def _split(value: Any) -> Any:
    """`a, b` and `[a, b]` are the same list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _all_or_list(value: Any) -> Any:
    return "all" if value in ("all", ["all"]) else _split(value)


def _word(true: str | None, false: str) -> BeforeValidator:
    """`no`, `off` and `false` are one word where a switch has words of its own, and so are `yes`, `on` and `true`."""

    def words(value: Any) -> Any:
        switch = truth(value)
        if switch is False:
            return false
        if switch is True and true is not None:
            return true
        return value

    return BeforeValidator(words)


def _trackers(value: Any) -> Any:
    if value is None or truth(value) is False or value in ("none", ["none"]):
        return []
    return _split(value)


def _steps(least: int) -> BeforeValidator:
    """A number of steps, or below 1 a share of all steps; what is neither is refused in one demand."""

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
    """A name, names with commas (`palate.data` parts them: a path may have a comma), a list, or weights by name."""
    if isinstance(value, dict):
        for name, weight in value.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < inf:
                raise ValueError(f"the weight of dataset {name} must be a number above 0, not {weight}")
    if value in ({}, [], ""):
        raise ValueError("dataset is empty; name a file, folder, hub id or built-in set")
    if not isinstance(value, str | dict) and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        raise ValueError(f"dataset must be a name, a list of names, or a mapping of name to weight, not {value}")
    return value


def _meanings(value: Any) -> Any:
    """Values of a label column as text: YAML reads 0 as a number and true as a truth value."""
    if not isinstance(value, dict):
        return value
    words = {True: "true", False: "false"}
    return {
        "null" if key is None else words[key] if isinstance(key, bool) else str(key): (
            "none" if meaning is None else words[meaning] if isinstance(meaning, bool) else str(meaning)
        )
        for key, meaning in value.items()
    }


Names: TypeAlias = Annotated[list[str], BeforeValidator(_split)]
LoraTarget: TypeAlias = Annotated[Literal["all"] | list[str], BeforeValidator(_all_or_list)]
Labels: TypeAlias = Annotated[dict[str, str], BeforeValidator(_meanings)]
Trackers: TypeAlias = Annotated[list[Literal["tensorboard", "wandb"]], BeforeValidator(_trackers)]
When: TypeAlias = Annotated[Literal["no", "steps", "epoch"], _word("steps", "no")]
AutoOrOff: TypeAlias = Annotated[Literal["auto", "off"], _word("auto", "off")]

# Steps between two events, or below 1 a share of all steps.
Interval: TypeAlias = Annotated[Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)], _steps(least=1)]
Warmup: TypeAlias = Annotated[Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)], _steps(least=0)]

# Text that may be a path: `~` and variables are expanded when the config is read. A hub id has neither and stays.
PathText: TypeAlias = Annotated[str, AfterValidator(expand)]
PathTexts: TypeAlias = Annotated[str | list[str], AfterValidator(expand_names)]
AutoOffOrPath: TypeAlias = Annotated[str, _word("auto", "off"), AfterValidator(expand)]
Dataset: TypeAlias = Annotated[
    str | list[str] | dict[str, float], BeforeValidator(_dataset), AfterValidator(expand_names)
]
# A reward, a judge or a function: `module:function`, `~/file.py:function`, `lexicon:~/words.txt`, a folder.
NamedOrPath: TypeAlias = Annotated[str, AfterValidator(expand_named)]
