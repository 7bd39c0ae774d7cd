"""pydantic's validation errors as lines that name the place, the key and the remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from palate.config.reader import ConfigEntry, as_yaml
from palate.errors import ConfigError, did_you_mean

_WORD = re.compile(r"\w+")
M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], entries: Mapping[str, ConfigEntry], origin: str) -> M:
    """The model of these keys; raises ConfigError with a line for each wrong one."""
    try:
        return model.model_validate({key: entry.value for key, entry in entries.items()})
    except ValidationError as error:
        raise ConfigError(*explain(error, entries, model, origin)) from error


def explain(
    error: ValidationError,
    entries: Mapping[str, ConfigEntry],
    model: type[BaseModel],
    origin: str,
    *,
    refused: Collection[str] = (),
) -> list[str]:
    """A line for each wrong key.

    Args:
        origin: the name of the config, for keys that were not written.
        refused: keys with an error already, and the keys that may have been meant. That one of them is missing, or
            does not fit to another key, may only follow from that and is not reported.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        if details["type"] == "default_factory_not_called":  # only because the key it depends on is wrong
            continue
        named = {str(details["loc"][0])} if details["loc"] else set(_WORD.findall(details["msg"]))
        if not (named & set(refused) and (details["type"] == "missing" or not details["loc"])):
            by_key.setdefault(key_of(details), []).append(details)
    lines = []
    for key, found in by_key.items():
        where = entries[key].where if key in entries else origin
        if found[0]["type"] == "missing":
            meaning = (model.model_fields[key].description or "").split(". ")[0].rstrip(".")
            lines.append(f"{where}: {key} is missing: {meaning[:1].lower()}{meaning[1:]}")
        elif (
            found[0]["type"] == "extra_forbidden"
            and len(found[0]["loc"]) == 1
            and (hint := did_you_mean(key, model.model_fields))
        ):
            lines.append(f"{where}: {key} is not a known key; {hint}")
        else:
            lines.append(f"{where}: {complaint(key, found)}")
    return lines


def key_of(details: ErrorDetails) -> str:
    """The key that an error is about; if several do not fit together, the first one that is named, else ""."""
    if details["loc"]:
        return str(details["loc"][0])
    words = _WORD.findall(str(details["ctx"]["error"])) if "ctx" in details else []
    return words[0] if words else ""


def complaint(key: str, errors: Sequence[ErrorDetails]) -> str:
    """The errors about one key, without the place: what it must be, and what it is."""
    first = errors[0]
    value = first["input"]
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
        if message.startswith("must "):
            return f"{key} {message}, not {as_yaml(value)}"
        return message if not key or message.startswith(key) else f"{key}: {message}"
    inner = first["loc"][1:]
    if len(inner) == 2 and isinstance(inner[0], int):  # in a list of mappings: rewards
        key = f"{key}, number {inner[0] + 1}: {inner[1]}"
    if first["type"] == "extra_forbidden":
        return f"{key} is not a known key; remove or correct it"
    demands = list(dict.fromkeys(_demand(details) for details in errors if len(details["loc"]) == len(first["loc"])))
    hint = did_you_mean(str(value), _allowed(errors))
    return f"{key} must be {' or '.join(demands)}, not {as_yaml(value)}{hint and f'; {hint}'}"


# pydantic's error type → the demand, with the bound or the choices filled in
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
        **dict.fromkeys(("int_from_float", "int_parsing", "int_type"), "a whole number"),
        **dict.fromkeys(("float_parsing", "float_type"), "a number"),
        **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a mapping",
    }
)


def _demand(details: ErrorDetails) -> str:
    if details["type"] in DEMANDS:
        return DEMANDS[details["type"]].format(**details.get("ctx", {})).replace("'", "")
    message = details["msg"].removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _allowed(errors: Sequence[ErrorDetails]) -> list[str]:
    """The words that a key takes."""
    return [
        word.strip(" '")
        for details in errors
        if details["type"] == "literal_error"
        for word in str(details["ctx"]["expected"]).replace(" or ", ", ").split(",")
    ]
