"""From a YAML file and overrides to a config; every error, mapped key and key without effect is reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from palate.config.base import truth
from palate.config.explain import explain, key_of
from palate.config.mapping.table import KNOWN_ELSEWHERE, OTHER_COMMANDS
from palate.config.mapping.translate import Translated, translate
from palate.config.objectives.lookup import OPTIONS
from palate.config.reader import ConfigEntry, as_yaml, read_config_file, read_override
from palate.config.run import STAGES, RunConfig
from palate.config.secrets import find_secrets
from palate.config.stages.optimisation import LOW_RANK_OPTIMISERS
from palate.config.stages.preference import ObjectiveChoice
from palate.config.values import expand
from palate.errors import ConfigError, did_you_mean

# finetuning_type → the keys that only it uses
ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "lora": (
        *("lora_target", "lora_rank", "lora_alpha", "lora_dropout", "use_dora", "use_rslora"),
        *("create_new_adapter", "additional_target"),
    ),
    "freeze": ("freeze_trainable_layers", "freeze_extra_modules"),
}
_KNOWN = tuple(sorted({name for config_class in STAGES.values() for name in config_class.model_fields}))
PIPELINE_KEYS = ("stages", "rounds")
SWEEP_KEY = "sweep"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config and what to tell the user about it.

    Attributes:
        config: the values, with defaults filled in.
        notices: lines about keys that were mapped or have no effect.
    """

    config: RunConfig
    notices: tuple[str, ...]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config file and apply `key=value` overrides in order.

    Raises:
        ConfigError: a line for each wrong key, with file and line (or `--set`) and the remedy.
    """
    return _build(overridden(read_config_file(path), overrides), str(path))


def config_from_values(values: Mapping[str, object], *, origin: str = "config") -> LoadedConfig:
    """The config of values in memory; `origin` names them in messages."""
    return config_from_entries({key: ConfigEntry(value, origin) for key, value in values.items()}, origin=origin)


def config_from_entries(given: Mapping[str, ConfigEntry], *, origin: str) -> LoadedConfig:
    """The config of values with the places where they were written."""
    return _build(overridden(given, ()), origin)


def overridden(given: Mapping[str, ConfigEntry], overrides: Sequence[str]) -> Translated:
    """A file's entries under palate's keys, with `key=value` overrides applied. Raises ConfigError for a secret."""
    found = _translated(given, None)
    for text in overrides:
        key, entry = read_override(text)
        stage = found.entries["stage"].value if "stage" in found.entries else None
        if "." in key:
            dotted = key
            key, _, path = dotted.partition(".")
            before = found.entries[key].value if key in found.entries else None
            entry = ConfigEntry(_with_value(before, path, entry.value, dotted), entry.where)
        found.override(key, _translated({key: entry}, stage))
    return found


def output_folder(entries: Mapping[str, ConfigEntry], origin: str) -> Path:
    """The `output_dir` of a file with several runs, which are in folders of it."""
    entry = entries.get("output_dir")
    if entry is None or entry.value is None:
        raise ConfigError(f"{origin}: output_dir is missing; it will contain the folders of the runs")
    try:
        return Path(expand(str(entry.value)))
    except ValueError as error:
        raise ConfigError(f"{entry.where}: output_dir: {error}") from error


def wants_overwriting(entries: Mapping[str, ConfigEntry]) -> bool:
    """`overwrite_output_dir` of a file with several runs. It deletes them, so only true and false are accepted."""
    entry = entries.get("overwrite_output_dir")
    if entry is None or entry.value is None:
        return False
    switch = truth(entry.value)
    if switch is None:
        raise ConfigError(f"{entry.where}: overwrite_output_dir: {as_yaml(entry.value)} must be true or false")
    return switch


def _translated(entries: Mapping[str, ConfigEntry], stage: object) -> Translated:
    secrets = find_secrets(entries)
    if secrets:
        raise ConfigError(*secrets)  # alone, because other lines could show the value
    return translate(entries, stage=stage)


def _with_value(inside: Any, path: str, value: Any, dotted: str) -> Any:
    """A copy of a mapping or list with another value at `path`, the part of `--set dotted=value` that is still left."""
    if isinstance(inside, list):
        index, _, rest = path.partition(".")
        if not index.isdigit() or int(index) >= len(inside):
            raise ConfigError(f"--set {dotted}: {index} is not a position in a list of {len(inside)}; the first is 0")
        changed = list(inside)
        changed[int(index)] = _with_value(inside[int(index)], rest, value, dotted) if rest else value
        return changed
    if inside is not None and not isinstance(inside, Mapping):
        raise ConfigError(f"--set {dotted}: {as_yaml(inside)} is not a mapping, so nothing in it can be set")
    known = dict(inside or {})
    # A known name, such as that of a dataset, may itself contain dots.
    name, _, rest = (path, "", "") if path in known else path.partition(".")
    known[name] = _with_value(known.get(name), rest, value, dotted) if rest else value
    return known


def _build(given: Translated, origin: str) -> LoadedConfig:
    _refuse_other_files(given, origin)
    entries = _without_idle_evaluation(given)
    errors, refused = list(given.refused.values()), {*given.refused}
    stage = _stage(entries, errors, origin)
    config_class = STAGES[stage]
    known: dict[str, ConfigEntry] = {}
    for key, entry in entries.items():
        if key in config_class.model_fields:
            known[key] = entry
        elif entry.value is None:  # like a missing key
            continue
        elif key not in _KNOWN:
            close = KNOWN_ELSEWHERE.get(key) or next(iter(get_close_matches(key, _KNOWN, n=1, cutoff=0.6)), None)
            hint = f"did you mean {close}?" if close else "docs/config.md lists the keys"
            errors.append(f"{entry.where}: unknown key {key}; {hint}")
            refused |= {key, close or key}
        elif _is_default(key, entry.value):
            given.ignore(key, entry, f"the default of stage {_owners(key)}")
        else:
            refused.add(key)
            errors.append(f"{entry.where}: {key} belongs to stage {_owners(key)}, but this config says stage: {stage}")
    config = _validated(config_class, known, errors, refused, origin)
    return LoadedConfig(config, (*given.lines(), *_idle_keys(config)))


def _owners(key: str) -> str:
    return " or ".join(name for name, other in STAGES.items() if key in other.model_fields)


def _is_default(key: str, value: Any) -> bool:
    """Whether a key of other stages has its default: files are shared between stages."""
    fields = [other.model_fields[key] for other in STAGES.values() if key in other.model_fields]
    defaults = [OPTIONS[key].default] if key in OPTIONS else [field.get_default() for field in fields]
    switch = truth(value)
    return any(
        switch is default if isinstance(default, bool) else default is not None and switch is None and value == default
        for default in defaults
    )


def _validated(
    config_class: type[RunConfig], entries: Mapping[str, ConfigEntry], errors: list[str], refused: set[str], origin: str
) -> RunConfig:
    """The config, or one ConfigError with a line for each wrong key.

    Args:
        errors: lines about keys that are refused already.
        refused: those keys, and the keys that may have been meant.
    """
    # A null key counts as missing, except report_to, where null means none.
    given = {key: entry.value for key, entry in entries.items() if entry.value is not None or key == "report_to"}
    # pydantic stops at the first check across keys that fails: wrong keys are removed until no new error appears.
    while True:
        wrong: set[str]
        try:
            config = config_class(**given)
            break
        except ValidationError as error:
            errors += explain(error, entries, config_class, origin, refused=refused)
            wrong = {key_of(details) for details in error.errors()}
        except ConfigError as error:  # from the table of objectives; its message begins with the key
            key = re.split(r"\W", str(error), maxsplit=1)[0]
            where = next((entries[name].where for name in (key, "pref_loss") if name in entries), origin)
            errors.append(f"{where}: {error}")
            wrong = {key, *(OPTIONS if key == "pref_loss" else ())}  # options cannot be checked without the objective
        if not wrong & given.keys():
            break
        refused |= wrong
        given = {name: value for name, value in given.items() if name not in wrong}
    if errors:
        raise ConfigError(*errors)
    return config


def _stage(entries: Mapping[str, ConfigEntry], errors: Sequence[str], origin: str) -> str:
    known = ", ".join(STAGES)
    if "stage" not in entries:
        raise ConfigError(f"{origin}: stage is missing; add `stage: dpo` (one of {known})", *errors)
    entry = entries["stage"]
    if entry.value not in STAGES:
        given = as_yaml(entry.value)
        hint = did_you_mean(given, STAGES)
        raise ConfigError(f"{entry.where}: stage must be one of {known}, not {given}{hint and '; ' + hint}", *errors)
    return str(entry.value)


def _refuse_other_files(given: Translated, origin: str) -> None:
    """Refuse a file of several runs, and LLaMA-Factory's files for other commands."""
    for key in (*PIPELINE_KEYS, SWEEP_KEY):
        if key in given.entries:
            kind = "several runs" if key == SWEEP_KEY else "a pipeline"
            raise ConfigError(
                f"{given.entries[key].where}: {key} makes {kind}, which `palate train` runs; expected is the config of "
                "one stage"
            )
    for key, purpose in OTHER_COMMANDS.items():
        if key in given.entries or (key in given.idle and "stage" not in given.entries):
            raise ConfigError(f"{origin}: not a training config: with {key} {purpose}")
    if "do_predict" in given.idle and "do_train" not in given.agreed:
        raise ConfigError(f"{origin}: not a training config: with do_predict it answers prompts; see palate generate")


def _without_idle_evaluation(given: Translated) -> dict[str, ConfigEntry]:
    """The entries; without `eval_strategy` if `val_size: 0` holds no rows out for it."""
    entries = given.entries
    value = {key: entry.value for key, entry in entries.items()}
    nothing = value.get("val_size") in (0, "0", "0.0") and value.get("eval_dataset") is None
    needed = value.get("load_best_model_at_end") or value.get("early_stopping_patience")
    if not nothing or needed or truth(value.get("eval_strategy", False)) is False:
        return entries
    given.notices.append(
        f"eval_strategy: {as_yaml(value['eval_strategy'])} has no effect: val_size: 0 holds no rows out"
    )
    return {key: entry for key, entry in entries.items() if key not in ("eval_strategy", "eval_steps")}


def _idle_keys(config: RunConfig) -> Iterable[str]:
    """Notices about given keys that have no effect because of other keys."""
    tuning, optim = config.finetuning_type, config.optim
    low_rank = optim.startswith(LOW_RANK_OPTIMISERS)
    no_adapter = config.create_new_adapter and not config.adapters
    both_warmups = config.warmup_steps and config.warmup_ratio
    rules = (
        *((kind != tuning, f"with finetuning_type: {tuning}", keys) for kind, keys in ONLY_WITH.items()),
        (no_adapter, "without adapter_name_or_path: a new adapter is made anyway", ("create_new_adapter",)),
        (config.quantization_bit != 4, "without quantization_bit: 4", ("double_quantization",)),
        (not low_rank, f"with optim: {optim}", ("optim_args", "optim_target_modules")),
        (both_warmups, "together with warmup_steps", ("warmup_ratio",)),
        (config.eval_strategy != "steps", f"with eval_strategy: {config.eval_strategy}", ("eval_steps",)),
        (config.max_steps > 0, "together with max_steps", ("num_train_epochs",)),
        ("wandb" not in config.report_to, "without report_to: wandb", ("wandb_project",)),
        ("trackio" not in config.report_to, "without report_to: trackio", ("project",)),
        (not config.push_to_hub, "without push_to_hub", ("hub_model_id", "hub_private_repo")),
    )
    given = config.model_fields_set
    yield from (f"{key} has no effect {why}" for idle, why, keys in rules if idle for key in keys if key in given)
    if isinstance(config, ObjectiveChoice):
        yield from _idle_options(config)


def _idle_options(config: ObjectiveChoice) -> list[str]:
    """Options given with their default that the objective does not read; β of orpo is read as its λ."""
    read, given = config.objective_options, config.model_fields_set
    idle = [key for key in config.objective_keys() if key in given and key not in read]
    lines = [f"{key} has no effect on pref_loss: {config.pref_loss}; it is the default" for key in idle]
    if "orpo_lambda" in read and "pref_beta" in idle:
        lines[idle.index("pref_beta")] = "pref_beta is read as orpo_lambda"
    return lines
