"""The tables of docs/config.md, made from the config classes: `python -m palate.config.docs docs/config.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from palate.artifacts.markdown import with_generated
from palate.config.base import Fields
from palate.config.mapping import table
from palate.config.mapping.former import FORMER_KEYS
from palate.config.pipeline import DriftFields, RoundFields, SamplingFields
from palate.config.reader import as_yaml
from palate.config.run import STAGES


def config_tables() -> str:
    """The page below its introduction, Markdown."""
    parts = [_stage_table()]
    for topic, stages in topics().items():
        only = "" if len(stages) == len(STAGES) else f" (stage {' or '.join(stages)})"
        parts.append(_topic(topic, only))
    parts.append("## Pipelines\n\nKeys of a file with `stages` or `rounds`: see [pipelines](pipelines.md).\n")
    parts += [f"#{_topic(topic)}" for topic in (DriftFields, RoundFields, SamplingFields)]
    parts.append(_other_trainers())
    return "\n".join(parts)


def topics() -> dict[type[Fields], list[str]]:
    """The classes that declare keys, each with the stages that inherit it."""
    found: dict[type[Fields], list[str]] = {}
    for stage, config_class in STAGES.items():
        for topic in reversed(config_class.__mro__[1:]):
            if issubclass(topic, Fields) and _own_fields(topic):
                found.setdefault(topic, []).append(stage)
    return found


def _own_fields(topic: type[Fields]) -> dict[str, FieldInfo]:
    """The keys that a class declares itself, with a description."""
    own = inspect.get_annotations(topic)
    return {key: field for key, field in topic.model_fields.items() if key in own and field.description}


def _stage_table() -> str:
    rows = [
        f"| `{name}` | {(config_class.__doc__ or '').rstrip('.')} "
        f"| {default_words(config_class.model_fields['learning_rate'])} |"
        for name, config_class in STAGES.items()
    ]
    head = "## Stages\n\n| `stage` | description | default `learning_rate` |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _topic(topic: type[Fields], only: str = "") -> str:
    """A heading, a sentence and a table, from the class's docstring `Heading: sentence.` and its fields."""
    title, _, text = (topic.__doc__ or "").partition(": ")
    rows = [
        f"| `{key}` | {type_words(field.annotation, field.metadata)} | {default_words(field)} | {field.description} |\n"
        for key, field in _own_fields(topic).items()
    ]
    head = f"## {title}{only}\n\n{text[:1].upper()}{text[1:]}\n\n"
    return f"{head}| key | type | default | meaning |\n|---|---|---|---|\n{''.join(rows)}"


def default_words(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if isinstance(field.json_schema_extra, dict) and "default" in field.json_schema_extra:
        return str(field.json_schema_extra["default"])
    value = field.default
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return f"`{', '.join(value)}`"
    return f"`{value:g}`".replace("e-0", "e-") if isinstance(value, float) else f"`{as_yaml(value)}`"


def type_words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words: `auto, off`, `whole number ≥ 1`, `text or list`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        parts = (part.metadata if isinstance(part, FieldInfo) else [part] for part in arguments[1:])
        return type_words(arguments[0], [rule for part in parts for rule in part])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(part, metadata) for part in arguments if part is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return "list" if get_origin(arguments[0]) is not Literal else f"list of {type_words(arguments[0])}"
    if origin is dict:
        return "mapping"
    words = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}[annotation]
    return words + _bounds(metadata) if annotation in (int, float) else words


def _bounds(metadata: Iterable[Any]) -> str:
    signs = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
    bounds = [f"{sign} {getattr(rule, name):g}" for rule in metadata for name, sign in signs if hasattr(rule, name)]
    return (" " + ", ".join(bounds)) if bounds else ""


def other_keys() -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys of other trainers, and former ones of palate, each group with what it is here; `…` ends a prefix."""
    for old, former in FORMER_KEYS.items():
        yield (old,), former.line(old)
    yield ("bf16", "fp16", "pure_bf16"), "read as `precision`; `bf16: false` alone is `fp32`"
    for key, name in table.RENAMED.items():
        online = f", for `ppo` and `grpo` as `{table.RENAMED_ONLINE[key]}`" if key in table.RENAMED_ONLINE else ""
        yield (key,), f"read as `{name}`{online}"
    yield (
        ("mix_strategy", "interleave_probs"),
        "`interleave_under` is read as the weights of `dataset`; `concat`, and both keys with a single dataset: no "
        "effect; `interleave_over` is refused",
    )
    for key, (agrees, why) in table.FIXED.items():
        yield (key,), f"`{as_yaml(not agrees)}` has no effect: {why}"
    for key in table.ONLY:
        yield (key,), _only_text(key)
    without_effect: dict[str, list[str]] = {}
    prefixes = {f"{prefix}…": why for prefix, why in table.NO_EFFECT_PREFIXES.items()}
    for key, why in {**table.NO_EFFECT, **prefixes}.items():
        without_effect.setdefault(why, []).append(key)
    for why, keys in without_effect.items():
        yield tuple(keys), f"no effect: {why}"


def _other_trainers() -> str:
    rows = [f"| {', '.join(f'`{key}`' for key in keys)} | {text} |" for keys, text in other_keys()]
    return (
        "## Keys of other trainers\n\nKeys of LLaMA-Factory, TRL and transformers that palate does not have. The run "
        "prints which keys are read under another name, and in one line which have no effect. One error message lists "
        "all refused keys.\n\n| key | here |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


def _only_text(key: str) -> str:
    if key in table.LOW_RANK:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(table.LOW_RANK[key].optimisers.values()))
        return f"`true`: read as optim {names} with `{table.LOW_RANK[key].prefix}…` as optim_args; `false`: no effect"
    only = table.ONLY[key]
    accepted = ", ".join(f"`{as_yaml(value)}`" for value in only.values if value != "") or "`null`"
    companions = ", ".join(f"`{prefix}…`" for prefix in only.companions)
    without = f"; {companions}: no effect without it" if companions else ""
    return f"{accepted}: no effect; other values are refused: {only.otherwise}{without}"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(with_generated(_page.read_text(encoding="utf-8"), config_tables()), encoding="utf-8")
