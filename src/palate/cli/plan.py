"""`palate plan`: what a config would run, without running it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from palate.cli.arguments import AsJson, ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import note, result, result_json

if TYPE_CHECKING:
    from palate.config.load import LoadedConfig

# What the loss is taken of, by the family of the objective.
ROWS = {"paired": "a pair", "ranked": "a ranking", "unpaired": "an answer", "reward": "a row"}

# What PyYAML adds to a bare scalar.
END_OF_DOCUMENT = "...\n"


def command(
    words: Words = None, config_file: ConfigFile = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show every key of a config as it would run, and what became of keys that mean nothing here."""
    path, changes = config_and_overrides(words, config_file, overrides)

    from palate.config.load import load_config

    loaded = load_config(path, changes)
    if as_json:
        result_json({"config": loaded.config.resolved(), "notices": list(loaded.notices), "facts": facts(loaded)})
        return
    for line in loaded.notices:
        note(line)
    result(as_config(loaded))


def facts(loaded: LoadedConfig) -> dict[str, str]:
    """What follows from the config without reading model or data, by name."""
    from palate.config.objectives import loss_at_start
    from palate.config.preference import ObjectiveChoice, ReferenceFields

    config = loaded.config
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    found = {"examples to a step": f"{batch} on each device"}
    if isinstance(config, ObjectiveChoice):
        members = config.objectives
        start = loss_at_start(members)
        formulas = [one.row.formula if len(members) == 1 else f"{one.weight:g}·[{one.row.formula}]" for one in members]
        found[f"loss of {ROWS[members[0].row.family]}"] = " + ".join(formulas)
        found["loss at step 0"] = "depends on the data" if start is None else f"{start:.4f}"
        if isinstance(config, ReferenceFields):
            reference = config.ref_model or "the policy as it starts"
            found["reference"] = reference if any(one.row.needs_reference for one in members) else "none needed"
    return found


def as_config(loaded: LoadedConfig) -> str:
    """YAML that `palate train` reads: what was given, and above and below it, as comments, facts and defaults."""
    given = loaded.config.model_fields_set
    values = loaded.config.resolved()
    lines = [f"# {name}: {fact}" for name, fact in facts(loaded).items()]
    lines += ["", _line("stage", values.pop("stage"))]
    lines += [_line(key, value) for key, value in values.items() if key in given]
    lines += ["", "# Defaults:"]
    lines += [f"# {_line(key, value)}" for key, value in values.items() if key not in given]
    return "\n".join(lines)


def _line(key: str, value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=inf, default_flow_style=True)
    return f"{key}: " + text.removesuffix(END_OF_DOCUMENT).strip()
