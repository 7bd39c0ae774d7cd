"""pydantic's findings as one line that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from palate.config.reader import Entry, as_yaml

_WORD = re.compile(r"\w+")


def explain(
    error: ValidationError,
    entries: Mapping[str, Entry],
    model: type[BaseModel],
    origin: str,
    *,
    beside: Collection[str] = (),
) -> list[str]:
    """A line for each wrong key: its place, what it must be and what it is.

    Args:
        error: pydantic's.
        entries: the keys, with where they were written.
        model: what was to be made of them.
        origin: what to call the config where a key was not written.
        beside: keys that were refused before, and what they may have meant: what is said of them here may only follow
            from their absence, and is left out.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for found in error.errors(include_url=False):
        if found["type"] == "default_factory_not_called":  # only because the key it follows is wrong
            continue
        named = {str(found["loc"][0])} if found["loc"] else set(_WORD.findall(found["msg"]))
        if not (named & set(beside) and (found["type"] == "missing" or not found["loc"])):
            by_key.setdefault(key_of(found), []).append(found)
    return [
        f"{entries[key].where if key in entries else origin}: {_say(key, details, model)}"
        for key, details in by_key.items()
    ]


def key_of(found: ErrorDetails) -> str:
    """The key that a finding is about; of keys that do not fit together the first that is named, else ""."""
    if found["loc"]:
        return str(found["loc"][0])
    words = _WORD.findall(str(found["ctx"]["error"])) if "ctx" in found else []
    return words[0] if words else ""


def _say(key: str, details: list[ErrorDetails], model: type[BaseModel]) -> str:
    first = details[0]
    if first["type"] == "missing":
        meaning = (model.model_fields[key].description or "").split(". ")[0].rstrip(".")
        return f"{key} is missing: {meaning[:1].lower()}{meaning[1:]}"
    value = first["input"]
    if first["type"] == "value_error":
        said = str(first["ctx"]["error"])
        if said.startswith("must "):
            return f"{key} {said}, not {as_yaml(value)}"
        return said if not key or said.startswith(key) else f"{key}: {said}"
    inner = first["loc"][1:]
    if len(inner) == 2 and isinstance(inner[0], int):  # of a list of mappings: rewards
        key = f"{key}, number {inner[0] + 1}: {inner[1]}"
    if first["type"] == "extra_forbidden":
        return f"{key} is no key here; remove it, or look for a slip in it"
    demands = list(dict.fromkeys(_demand(found) for found in details if len(found["loc"]) == len(first["loc"])))
    close = _nearest(value, details)
    return f"{key} must be {' or '.join(demands)}, not {as_yaml(value)}" + (f"; did you mean {close}?" if close else "")


# pydantic's error type → what the value must be, with the bound or the choices filled in
DEMANDS: Mapping[str, str] = MappingProxyType(
    {
        "literal_error": "{expected}",
        "greater_than": "above {gt:g}",
        "greater_than_equal": "at least {ge:g}",
        "less_than": "below {lt:g}",
        "less_than_equal": "at most {le:g}",
        "string_too_short": "not empty",
        "too_short": "not empty",
        "finite_number": "a finite number",
        "int_from_float": "a whole number",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a mapping",
    }
)


def _demand(found: ErrorDetails) -> str:
    """`Input should be greater than 0` and its like, in the words of a config file."""
    if found["type"] in DEMANDS:
        return DEMANDS[found["type"]].format(**found.get("ctx", {})).replace("'", "")
    message = found["msg"].removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _nearest(value: Any, details: list[ErrorDetails]) -> str | None:
    allowed = [
        word.strip(" '")
        for found in details
        if found["type"] == "literal_error"
        for word in str(found["ctx"]["expected"]).replace(" or ", ", ").split(",")
    ]
    return next(iter(get_close_matches(str(value), allowed, n=1, cutoff=0.6)), None)
