"""From a YAML file and overrides to one frozen config, with a line for everything that is not what it seems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from palate.config.base import truth
from palate.config.explain import explain, key_of
from palate.config.key_mapping import Translated, translate
from palate.config.key_mapping_table import KNOWN_ELSEWHERE, OTHER_COMMANDS
from palate.config.objectives.lookup import OPTIONS
from palate.config.paths import expand
from palate.config.reader import Entry, as_yaml, read_config_file, read_override
from palate.config.run import STAGES, RunConfig
from palate.config.secrets import find_secrets
from palate.config.stages.optimisation import LOW_RANK_OPTIMISERS
from palate.config.stages.preference import ObjectiveChoice
from palate.errors import ConfigError

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
    """A config as it will run.

    Attributes:
        config: the values, every default filled in.
        notices: lines about keys that were mapped, overridden or have no effect; for a person to read.
    """

    config: RunConfig
    notices: tuple[str, ...]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config file and apply `key=value` overrides to it, later ones winning.

    Raises:
        ConfigError: a line for every key that is wrong, with the file and line (or `--set`) and the remedy.
    """
    return _build(overridden(read_config_file(path), overrides), str(path))


def config_from_values(values: Mapping[str, object], *, origin: str = "config") -> LoadedConfig:
    """The same for values that are already in memory; `origin` is what messages call them."""
    return config_from_entries({key: Entry(value, origin) for key, value in values.items()}, origin=origin)


def config_from_entries(given: Mapping[str, Entry], *, origin: str) -> LoadedConfig:
    """The same for values that know where they were written."""
    return _build(overridden(given, ()), origin)


def overridden(given: Mapping[str, Entry], overrides: Sequence[str]) -> Translated:
    """Entries of a file under palate's own keys, with `key=value` overrides applied; secrets are refused at once."""
    found = _translated(given, None)
    for text in overrides:
        key, entry = read_override(text)
        stage = found.entries["stage"].value if "stage" in found.entries else None
        if "." in key:
            key, entry = _nested(key, entry, found.entries)
        found.override(key, _translated({key: entry}, stage))
    return found


def output_folder(entries: Mapping[str, Entry], origin: str) -> Path:
    """The `output_dir` of a file with several runs, which go below it."""
    entry = entries.get("output_dir")
    if entry is None or entry.value is None:
        raise ConfigError(f"{origin}: output_dir is missing; the runs go below it")
    try:
        return Path(expand(str(entry.value)))
    except ValueError as error:
        raise ConfigError(f"{entry.where}: output_dir: {error}") from error


def wants_overwriting(entries: Mapping[str, Entry]) -> bool:
    """`overwrite_output_dir` of a file with several runs, which deletes them: true or false and no other word."""
    entry = entries.get("overwrite_output_dir")
    if entry is None or entry.value is None:
        return False
    switch = truth(entry.value)
    if switch is None:
        raise ConfigError(f"{entry.where}: overwrite_output_dir: {as_yaml(entry.value)} must be true or false")
    return switch


def _translated(entries: Mapping[str, Entry], stage: object) -> Translated:
    secrets = find_secrets(entries)
    if secrets:
        raise ConfigError(*secrets)  # alone: no other line may come near the value
    return translate(entries, stage=stage)


def _nested(dotted: str, entry: Entry, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """`lr_scheduler_kwargs.min_lr=1e-7` or `stages.1.pref_beta=0.2`: one value inside a mapping or a list."""
    key, _, rest = dotted.partition(".")
    before = entries[key].value if key in entries else None
    return key, Entry(_with(before, rest, entry.value, dotted), entry.where)


def _with(inside: Any, path: str, value: Any, dotted: str) -> Any:
    """A copy of a mapping or list in which the value at `path` is another one."""
    if isinstance(inside, list):
        place, _, rest = path.partition(".")
        if not place.isdigit() or int(place) >= len(inside):
            raise ConfigError(
                f"--set {dotted}: {place} is not a position in a list of {len(inside)}; they begin with 0"
            )
        changed = list(inside)
        changed[int(place)] = _with(inside[int(place)], rest, value, dotted) if rest else value
        return changed
    if inside is not None and not isinstance(inside, Mapping):
        raise ConfigError(f"--set {dotted}: {as_yaml(inside)} is not a mapping, so nothing in it can be set")
    known = dict(inside or {})
    # The name of a dataset has dots of its own.
    name, _, rest = (path, "", "") if path in known else path.partition(".")
    known[name] = _with(known.get(name), rest, value, dotted) if rest else value
    return known


def _build(given: Translated, origin: str) -> LoadedConfig:
    _refuse_other_files(given, origin)
    entries = _without_idle_evaluation(given)
    refused, beside = list(given.refused.values()), {*given.refused}
    stage = _stage(entries, refused, origin)
    config_class = STAGES[stage]
    known: dict[str, Entry] = {}
    for key, entry in entries.items():
        if key in config_class.model_fields:
            known[key] = entry
        elif entry.value is None:  # a key left out
            continue
        elif key not in _KNOWN:
            close = KNOWN_ELSEWHERE.get(key) or next(iter(get_close_matches(key, _KNOWN, n=1, cutoff=0.6)), None)
            hint = f"did you mean {close}?" if close else "docs/config.md lists the keys"
            refused.append(f"{entry.where}: unknown key {key}; {hint}")
            beside |= {key, close or key}
        elif _is_default(key, entry.value):
            given.idle[key] = f"{key}: {as_yaml(entry.value)} (the default of stage {_owners(key)})"
        else:
            beside.add(key)
            refused.append(f"{entry.where}: {key} belongs to stage {_owners(key)}, but this config says stage: {stage}")
    config = _validated(config_class, known, refused, beside, origin)
    return LoadedConfig(config, (*given.lines(), *_idle_keys(config)))


def _owners(key: str) -> str:
    return " or ".join(name for name, other in STAGES.items() if key in other.model_fields)


def _is_default(key: str, value: Any) -> bool:
    """Whether a key of other stages has the value that it has there anyway: files are shared between stages."""
    fields = [other.model_fields[key] for other in STAGES.values() if key in other.model_fields]
    defaults = [OPTIONS[key].default] if key in OPTIONS else [field.get_default() for field in fields]
    switch = truth(value)
    return any(
        switch is default if isinstance(default, bool) else default is not None and switch is None and value == default
        for default in defaults
    )


def _validated(
    config_class: type[RunConfig], entries: Mapping[str, Entry], refused: list[str], beside: set[str], origin: str
) -> RunConfig:
    """The config, or one ConfigError with a line for each key that is wrong.

    Args:
        config_class: the stage's.
        entries: its keys.
        refused: lines about keys that are refused already.
        beside: those keys, and what they may have meant.
        origin: what messages call the config.
    """
    # A key that is there and null is a key left out, but for report_to, where it means none.
    given = {key: entry.value for key, entry in entries.items() if entry.value is not None or key == "report_to"}
    while True:
        wrong: set[str]
        try:
            config = config_class(**given)
            break
        except ValidationError as error:
            refused += explain(error, entries, config_class, origin, beside=beside)
            wrong = {key_of(found) for found in error.errors()}
        except ConfigError as error:  # from the objective's table, which begins with the key
            key = str(error).partition(":")[0]
            where = next((entries[name].where for name in (key, "pref_loss") if name in entries), origin)
            refused.append(f"{where}: {error}")
            wrong = {key, *(OPTIONS if key == "pref_loss" else ())}  # options cannot be judged without their objective
        if not wrong & given.keys():
            break
        beside |= wrong
        given = {name: value for name, value in given.items() if name not in wrong}
    if refused:
        raise ConfigError(*refused)
    return config


def _stage(entries: Mapping[str, Entry], refused: Sequence[str], origin: str) -> str:
    known = ", ".join(STAGES)
    if "stage" not in entries:
        raise ConfigError(f"{origin}: stage is missing; add `stage: dpo` (one of {known})", *refused)
    entry = entries["stage"]
    if entry.value not in STAGES:
        raise ConfigError(f"{entry.where}: stage must be one of {known}, not {as_yaml(entry.value)}", *refused)
    return str(entry.value)


def _refuse_other_files(given: Translated, origin: str) -> None:
    """Refuse a file of several runs, and one of LLaMA-Factory for another command than training."""
    for key in (*PIPELINE_KEYS, SWEEP_KEY):
        if key in given.entries:
            makes = "many runs" if key == SWEEP_KEY else "a pipeline"
            raise ConfigError(
                f"{given.entries[key].where}: {key} makes {makes}, which `palate train` runs; this takes the config of "
                "one stage"
            )
    for key, purpose in OTHER_COMMANDS.items():
        if key in given.entries or (key in given.idle and "stage" not in given.entries):
            raise ConfigError(f"{origin}: not a training config: with {key} {purpose}")
    if "do_predict" in given.idle and "do_train" not in given.agreed:
        raise ConfigError(f"{origin}: not a training config: with do_predict it answers prompts; see palate generate")


def _without_idle_evaluation(given: Translated) -> dict[str, Entry]:
    """`val_size: 0` says that nothing is held out, so that `eval_strategy` beside it has nothing to act on."""
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
    if "double_quantization" in given and config.quantization_bit != 4:
        idle.append("double_quantization has no effect without quantization_bit: 4")
    if not config.optim.startswith(LOW_RANK_OPTIMISERS):
        keys = ("optim_args", "optim_target_modules")
        idle += [f"{key} has no effect with optim: {config.optim}" for key in keys if key in given]
    if isinstance(config, ObjectiveChoice):
        idle += _idle_options(config)
    if config.warmup_steps and config.warmup_ratio:
        idle.append("warmup_ratio has no effect beside warmup_steps")
    if "eval_steps" in given and config.eval_strategy != "steps":
        idle.append(f"eval_steps has no effect with eval_strategy: {config.eval_strategy}")
    if "num_train_epochs" in given and config.max_steps > 0:
        idle.append("num_train_epochs has no effect beside max_steps")
    if config.wandb_project and "wandb" not in config.report_to:
        idle.append("wandb_project has no effect without report_to: wandb")
    return idle


def _idle_options(config: ObjectiveChoice) -> list[str]:
    """Options that were written down with their default and that the objective does not read, and λ of orpo as β."""
    read, given = config.objective_options, config.model_fields_set
    idle = [key for key in config.objective_keys() if key in given and key not in read]
    lines = [f"{key} has no effect on pref_loss: {config.pref_loss}; it is the default" for key in idle]
    if "orpo_lambda" in read and "pref_beta" in idle:
        lines[idle.index("pref_beta")] = "pref_beta is read as orpo_lambda"
    return lines
