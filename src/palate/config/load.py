"""From a YAML file and overrides to one frozen config, with one line for everything that is not what it seems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from palate.config.explain import explain
from palate.config.peers import KNOWN_ELSEWHERE, translate
from palate.config.reader import Entry, as_yaml, read_config_file, read_override
from palate.config.run import STAGES, RunConfig
from palate.config.secrets import refuse_secrets
from palate.errors import ConfigError

# finetuning_type → the keys that only it uses
ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "lora": (
        *("lora_target", "lora_rank", "lora_alpha", "lora_dropout", "use_dora", "use_rslora"),
        *("create_new_adapter", "additional_target"),
    ),
    "freeze": ("freeze_trainable_layers", "freeze_extra_modules"),
}
PIPELINE_KEYS = ("stages", "rounds")
SWEEP_KEY = "sweep"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config as it will run.

    Attributes:
        config: the values, every default filled in.
        notices: one line for each key that was mapped, overridden or has no effect; for a person to read.
    """

    config: RunConfig
    notices: tuple[str, ...]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config file and apply `key=value` overrides to it, later ones winning.

    Raises ConfigError with one line that names the file and line (or `--set`), the key, and the remedy.
    """
    entries, notices = overridden(read_config_file(path), overrides)
    return _build(entries, notices, str(path))


def config_from_values(values: Mapping[str, object], *, origin: str = "config") -> LoadedConfig:
    """The same for values that are already in memory; `origin` is what messages call them."""
    return config_from_entries({key: Entry(value, origin) for key, value in values.items()}, origin=origin)


def wants_overwriting(entries: Mapping[str, Entry]) -> bool:
    """`overwrite_output_dir` of a file with several runs, which deletes them: true or false and no other word."""
    entry = entries.get("overwrite_output_dir")
    if entry is None or entry.value is None:
        return False
    if not isinstance(entry.value, bool):
        raise ConfigError(f"{entry.where}: overwrite_output_dir: {as_yaml(entry.value)} must be true or false")
    return entry.value


def config_from_entries(given: Mapping[str, Entry], *, origin: str) -> LoadedConfig:
    """The same for values that know where they were written."""
    entries, notices = translate(_checked(given))
    return _build(entries, notices, origin)


def overridden(given: Mapping[str, Entry], overrides: Sequence[str]) -> tuple[dict[str, Entry], list[str]]:
    """Entries of a file under palate's own keys, `key=value` overrides applied, and what is to be said of them."""
    entries, notices = translate(_checked(given))
    for text in overrides:
        key, entry = read_override(text)
        override, said = translate(_checked({key: entry}))
        entries |= override
        notices += said
    return entries, notices


def _checked(entries: Mapping[str, Entry]) -> Mapping[str, Entry]:
    refuse_secrets(entries)
    return entries


def _build(entries: Mapping[str, Entry], notices: Iterable[str], origin: str) -> LoadedConfig:
    _refuse_unknown(entries)
    config_class = STAGES[_stage(entries, origin)]
    _refuse_other_stages(entries, config_class)
    # A key that is there and null is a key left out, but for report_to, where it means none.
    given = {key: entry.value for key, entry in entries.items() if entry.value is not None or key == "report_to"}
    try:
        config = config_class(**given)
    except ValidationError as error:
        raise ConfigError(explain(error, entries, config_class, origin)) from error
    except ConfigError as error:  # from the objective's table, which begins with the key
        key = str(error).partition(":")[0]
        where = next((entries[name].where for name in (key, "pref_loss") if name in entries), origin)
        raise ConfigError(f"{where}: {error}") from error
    return LoadedConfig(config, (*notices, *_idle_keys(config)))


def _stage(entries: Mapping[str, Entry], origin: str) -> str:
    known = ", ".join(STAGES)
    if "stage" not in entries:
        raise ConfigError(f"{origin}: stage is missing; add `stage: dpo` (one of {known})")
    entry = entries["stage"]
    if entry.value not in STAGES:
        raise ConfigError(f"{entry.where}: stage must be one of {known}, not {as_yaml(entry.value)}")
    return str(entry.value)


def _refuse_unknown(entries: Mapping[str, Entry]) -> None:
    known = {name for config_class in STAGES.values() for name in config_class.model_fields}
    for key, entry in entries.items():
        if key in PIPELINE_KEYS:
            raise ConfigError(
                f"{entry.where}: {key} makes a pipeline, which `palate train` runs; this takes the config of one stage"
            )
        if key == SWEEP_KEY:
            raise ConfigError(f"{entry.where}: sweep makes many runs, which `palate train` runs; this takes one config")
        if key in known:
            continue
        close = KNOWN_ELSEWHERE.get(key) or next(iter(get_close_matches(key, sorted(known), n=1, cutoff=0.6)), None)
        hint = f"did you mean {close}?" if close else "docs/config.md lists the keys"
        raise ConfigError(f"{entry.where}: unknown key {key}; {hint}")


def _refuse_other_stages(entries: Mapping[str, Entry], config_class: type[RunConfig]) -> None:
    stage = entries["stage"].value
    for key, entry in entries.items():
        if key not in config_class.model_fields:
            owners = " or ".join(name for name, other in STAGES.items() if key in other.model_fields)
            raise ConfigError(f"{entry.where}: {key} belongs to stage {owners}, but this config says stage: {stage}")


def _idle_keys(config: RunConfig) -> list[str]:
    """Keys that were written down and that the rest of the config leaves without effect."""
    given = config.model_fields_set
    idle = [
        f"{key} has no effect with finetuning_type: {config.finetuning_type}"
        for kind, keys in ONLY_WITH.items()
        if kind != config.finetuning_type
        for key in keys
        if key in given
    ]
    if config.create_new_adapter and not config.adapters:
        idle.append("create_new_adapter has no effect without adapter_name_or_path: a new adapter is made anyway")
    if config.warmup_steps and config.warmup_ratio:
        idle.append("warmup_ratio has no effect beside warmup_steps")
    if "eval_steps" in given and config.eval_strategy != "steps":
        idle.append(f"eval_steps has no effect with eval_strategy: {config.eval_strategy}")
    if "num_train_epochs" in given and config.max_steps > 0:
        idle.append("num_train_epochs has no effect beside max_steps")
    if config.wandb_project and "wandb" not in config.report_to:
        idle.append("wandb_project has no effect without report_to: wandb")
    return idle
