"""`palate plan`: what a config would run, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.cli.arguments import AsJson, ConfigFile, Overrides, Words, config_and_overrides
from palate.cli.console import note, result, result_json

if TYPE_CHECKING:
    from palate.config.load import LoadedConfig


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
    from palate.config.objectives import objective
    from palate.config.run import DpoConfig

    config = loaded.config
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    found = {"examples to a step": f"{batch} on each device"}
    if isinstance(config, DpoConfig):
        row = objective(config.pref_loss)
        start = row.loss_at_start(config.objective_options)
        found["loss of a pair"] = row.formula
        found["loss at step 0"] = "depends on the data" if start is None else f"{start:.4f}"
        found["reference"] = (config.ref_model or "the policy as it starts") if row.needs_reference else "none needed"
    return found


def as_config(loaded: LoadedConfig) -> str:
    """YAML that `palate train` reads: what was given, and above and below it, as comments, facts and defaults."""
    import yaml

    given = loaded.config.model_fields_set
    values = loaded.config.resolved()
    chosen = {"stage": values.pop("stage")} | {key: value for key, value in values.items() if key in given}
    rest = {key: value for key, value in values.items() if key not in given}
    text, defaults = (
        yaml.safe_dump(part, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        for part in (chosen, rest)
    )
    return "\n".join(
        [*(f"# {name}: {fact}" for name, fact in facts(loaded).items()), "", text, "# Defaults:"]
        + [f"# {line}" for line in defaults.splitlines()]
    )
