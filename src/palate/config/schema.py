"""JSON schemas of config files, by which editors complete and check keys; made of the classes that check the files.

A schema marks nothing that palate accepts. Some of what palate refuses, such as two keys that contradict each other, it
does not mark: `palate plan` says it.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter

from palate.config.base import Fields
from palate.config.docs import default_words, other_keys
from palate.config.load import PIPELINE_KEYS, SWEEP_KEY
from palate.config.mapping.table import ONLY
from palate.config.objectives.lookup import ALIASES, OBJECTIVES
from palate.config.pipeline import DriftFields, RoundFields, SamplingFields
from palate.config.reader import CONFIG_VERSION, VERSION_KEY
from palate.config.run import STAGES

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER = r"^\s*[-+]?[0-9._]+([eE][-+]?[0-9]+)?\s*$"
"""Quoted numbers are read as numbers."""
_TRUTH = r"^([Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo][Nn]|[Oo][Ff][Ff]|[Tt]([Rr][Uu][Ee])?|[Ff]([Aa][Ll][Ss][Ee])?|[01])$"
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}\S.*)*)", re.MULTILINE)
_NOT_OF_SCHEMAS = ("title", "default", "of_objective", "argument")
"""What pydantic and the fields' `json_schema_extra` add."""


def train_schema() -> dict[str, Any]:
    """The schema of files of `palate train`: a run of any stage, a pipeline or a sweep."""
    found: dict[str, list[dict[str, Any]]] = {}
    described: dict[str, dict[str, None]] = {}
    definitions: dict[str, Any] = {}
    for model in (*STAGES.values(), DriftFields, RoundFields, SamplingFields):
        made = model.model_json_schema()
        definitions |= made.get("$defs", {})
        for key, schema in made["properties"].items():
            field = model.model_fields[key]
            accepted = _accepted(schema)
            accepted.pop("description", None)
            if accepted not in found.setdefault(key, []):
                found[key].append(accepted)
            described.setdefault(key, {})[f"{field.description} Default: {default_words(field)}."] = None
    properties = {
        key: {"description": " ".join(described[key]).replace("Default: **required**", "Required"), **_or_null(schemas)}
        for key, schemas in found.items()
    }
    properties["stage"] = {"description": "The kind of training. Required.", "enum": [*STAGES, None]}
    properties["pref_loss"]["examples"] = sorted({*OBJECTIVES, *ALIASES})
    for keys, text in other_keys():
        companions = (f"{prefix}…" for key in keys if key in ONLY for prefix in ONLY[key].companions)
        properties |= {key: {"description": f"{text}."} for key in (*keys, *companions) if key not in properties}
    run = {"$ref": "#"}
    listed = {"type": "array", "items": run}
    stages, rounds = PIPELINE_KEYS
    properties[stages] = {"description": "Runs, each from the result of the one before.", **listed}
    properties[rounds] = {"description": "One stage, repeated.", "anyOf": [{"type": "integer", "minimum": 1}, listed]}
    lists = {"type": "object", "additionalProperties": {"type": "array"}}
    properties[SWEEP_KEY] = {
        "description": "Keys with lists of values, each combination of which is a run; or a list of runs.",
        "anyOf": [lists, listed],
    }
    prefixes = {key: schema for key, schema in properties.items() if key.endswith("…")}
    return _document(
        "palate train",
        {
            "properties": {key: schema for key, schema in properties.items() if key not in prefixes},
            "patternProperties": {f"^{key.removesuffix('…')}": schema for key, schema in prefixes.items()},
            "$defs": {name: _accepted(schema) for name, schema in definitions.items()},
        },
    )


def schema_of(kind: type[Any], title: str) -> dict[str, Any]:
    """The schema of files that one config class or dataclass describes."""
    if not issubclass(kind, Fields):
        made = TypeAdapter(kind).json_schema()
        for key, words in _ATTRIBUTE.findall(made.pop("description")):
            made["properties"][key]["description"] = " ".join(words.split())
        return _document(title, made)
    made = kind.model_json_schema()
    for key, field in kind.model_fields.items():
        words = default_words(field) if isinstance(field.default, str | int | float) else ""
        made["properties"][key]["description"] = f"{field.description}{words and f' Default: {words}.'}"
    return _document(title, _accepted(made))


def _document(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    version = {
        "description": "Version of the keys' meanings.",
        "type": "integer",
        "minimum": 1,
        "maximum": CONFIG_VERSION,
    }
    return {
        "$schema": _DIALECT,
        "title": title,
        "type": "object",
        **schema,
        "properties": {**schema["properties"], VERSION_KEY: version},
        "additionalProperties": False,
    }


def _or_null(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Any of these schemas, or null, which counts as a missing key."""
    parts = [part for schema in schemas for part in (schema["anyOf"] if list(schema) == ["anyOf"] else [schema])]
    null = {"type": "null"}
    return {"anyOf": parts if null in parts else [*parts, null]}


def _accepted(schema: Any) -> Any:
    """A schema of pydantic's with the other spellings that configs may use, and without what editors do not need."""
    if isinstance(schema, list):
        return [_accepted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = ("properties", "$defs", "patternProperties")  # what is in them has names of its own
    made = {
        key: {name: _accepted(part) for name, part in value.items()} if key in named else _accepted(value)
        for key, value in schema.items()
        if key not in _NOT_OF_SCHEMAS and not (key == "required" and isinstance(value, bool))
    }
    kind = made.get("type")
    if kind == "boolean":
        del made["type"]
        words: list[dict[str, Any]] = [
            {"enum": ["yes", "no", "on", "off", 0, 1]},
            {"type": "string", "pattern": _TRUTH},
        ]
        return {**made, "anyOf": [{"type": "boolean"}, *words]}
    if kind in ("number", "integer"):
        return {**made, "type": [kind, "string"], "pattern": _NUMBER}
    if kind == "string" and not {"enum", "const", "pattern"} & set(made):
        return {**made, "type": ["string", "number"]}
    return made
