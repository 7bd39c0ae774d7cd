"""docs/config.md, written from the config classes: `python -m palate.config.docs docs/config.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from palate.config.base import Fields
from palate.config.key_mapping_table import (
    FIXED,
    LOW_RANK,
    NO_EFFECT,
    NO_EFFECT_PREFIXES,
    ONLY,
    RENAMED,
    RENAMED_ONLINE,
    OnlyValue,
)
from palate.config.pipeline import DriftFields, RoundFields, SamplingFields
from palate.config.reader import as_yaml
from palate.config.run import STAGES
from palate.config.stages.data import DataFields
from palate.config.stages.health import HealthFields
from palate.config.stages.kto import UnpairedObjectiveFields
from palate.config.stages.model import ModelFields, TuningFields
from palate.config.stages.online import GrpoFields, PpoFields
from palate.config.stages.optimisation import NoiseFields, OptimisationFields
from palate.config.stages.preference import ObjectiveFields, ReferenceFields, SampleFields
from palate.config.stages.rm import RewardObjectiveFields
from palate.config.stages.rollout import RolloutFields
from palate.config.stages.sft import SftFields
from palate.config.stages.trainer import DeviceFields, EvaluationFields, LogFields, OutputFields

TOPICS: tuple[tuple[str, type[Fields]], ...] = (
    ("Model", ModelFields),
    ("What is trained", TuningFields),
    ("Data", DataFields),
    ("Trained turns", SftFields),
    ("Objective", ObjectiveFields),
    ("Objective on single answers", UnpairedObjectiveFields),
    ("Objective of a reward model", RewardObjectiveFields),
    ("Answers sampled in training", RolloutFields),
    ("PPO", PpoFields),
    ("GRPO and RLOO", GrpoFields),
    ("Reference", ReferenceFields),
    ("Optimisation", OptimisationFields),
    ("Noise", NoiseFields),
    ("Output", OutputFields),
    ("Evaluation and saving", EvaluationFields),
    ("Logging", LogFields),
    ("Samples", SampleFields),
    ("Health", HealthFields),
    ("Devices", DeviceFields),
)

INTRODUCTION = """\
# Config

<!-- Written by `python -m palate.config.docs docs/config.md` from the config classes. Edit those. -->

A run is one flat YAML file, and `--set key=value` overrides any key of it, the last one winning:

    palate train run.yaml --set learning_rate=1e-6 --set output_dir=runs/second
    palate plan run.yaml      # every key as it would run, without running

`stage`, `model_name_or_path`, `dataset` and `output_dir` must be there; all else has a default. Keys have the names and
meanings of LLaMA-Factory and of transformers' `TrainingArguments`, so a file of either runs as it is; where palate's
default differs, the tables say so by showing it (`finetuning_type` is `full`, `dropout` is off). A key that is `null`
is a key left out; `report_to: null` means none.

- An unknown key is refused, with the nearest known one. So is a key of another stage, and an option that the chosen
  objective does not use. One message has a line for every key that is wrong.
- `5e-7` is a number, with or without a dot. `no`, `off`, `yes` and `on` are false and true where a key is a switch, and
  words everywhere else.
- `--set` also reaches into mappings and lists: `--set lr_scheduler_kwargs.min_lr=1e-7`, `--set stages.1.pref_beta=0.2`.
- A key given twice in one file is refused, and so is a secret: keys belong in environment variables
  (`WANDB_API_KEY`, `HF_TOKEN`).
- `~`, `$VAR` and `${VAR}` in a path are expanded when the config is read, and a variable that is not set is refused.
  Relative paths start at the folder in which the command runs.
"""


def config_page() -> str:
    """The whole page, Markdown."""
    parts = [INTRODUCTION, _stage_table()]
    for title, topic in TOPICS:
        stages = [name for name, config_class in STAGES.items() if issubclass(config_class, topic)]
        only = "" if len(stages) == len(STAGES) else f" (stage {' or '.join(stages)})"
        parts.append(f"## {title}{only}\n\n{topic.__doc__}\n\n{_field_table(topic.model_fields.items())}")
    parts.append(_pipelines())
    parts.append(_peers())
    return "\n".join(parts)


def _stage_table() -> str:
    rows = [
        f"| `{name}` | {(config_class.__doc__ or '').rstrip('.')} "
        f"| {_default(config_class.model_fields['learning_rate'])} |"
        for name, config_class in STAGES.items()
    ]
    head = "## Stages\n\n| `stage` | what it does | `learning_rate` unless given |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _field_table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    rows = [
        f"| `{key}` | {type_words(field.annotation, field.metadata)} | {_default(field)} | {_cell(field.description)} |"
        for key, field in fields
    ]
    return "| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
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
    """A type as a person who writes YAML thinks of it: `auto, off`, `whole number ≥ 1`, `text or list`."""
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


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _pipelines() -> str:
    head = (
        "## Pipelines\n\n`stages` and `rounds` put several runs into one file: see [pipelines](pipelines.md). "
        "Beside them stand:\n\n"
    )
    topics = (DriftFields, RoundFields, SamplingFields)
    return head + "\n".join(f"{topic.__doc__}\n\n{_field_table(topic.model_fields.items())}" for topic in topics)


def _peers() -> str:
    rows = [
        "| `bf16`, `fp16`, `pure_bf16` | read as `precision`; `bf16: false` alone is `fp32` |",
        *(f"| `{key}` | read as `{name}`{_ONLINE_NAME.get(key, '')} |" for key, name in RENAMED.items()),
        "| `mix_strategy`, `interleave_probs` | `interleave_under` is read as the weights of `dataset`; `concat`, and "
        "either beside one dataset: no effect; `interleave_over` is refused |",
        *(f"| `{key}` | `{as_yaml(not agrees)}` has no effect: {why} |" for key, (agrees, why) in FIXED.items()),
        *(f"| `{key}` | {_only_text(key, only)} |" for key, only in ONLY.items()),
        *(f"| `{key}` | no effect: {why} |" for key, why in NO_EFFECT.items()),
        *(f"| `{prefix}…` | no effect: {why} |" for prefix, why in NO_EFFECT_PREFIXES.items()),
    ]
    return (
        "## Keys of other trainers\n\nKeys of LLaMA-Factory, TRL and transformers that palate does not have. The "
        "run prints which keys are read under another name and, in one line, which have no effect. All refused keys "
        "come in one error message.\n\n| key | here |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


_ONLINE_NAME = {key: f", for `ppo` and `grpo` as `{name}`" for key, name in RENAMED_ONLINE.items()}


def _only_text(key: str, only: OnlyValue) -> str:
    if key in LOW_RANK:
        low = LOW_RANK[key]
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(low.optimisers.values()))
        return f"`true`: read as optim {names} with `{low.prefix}…` as optim_args; `false`: no effect"
    accepted = ", ".join(f"`{as_yaml(value)}`" for value in only.values) or "`null`"
    companions = ", ".join(f"`{prefix}…`" for prefix in only.companions)
    without = f"; {companions}: no effect without it" if companions else ""
    return f"{accepted}: no effect; anything else is refused: {only.otherwise}{without}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(config_page(), encoding="utf-8")
