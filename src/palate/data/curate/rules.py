"""All rules and presets; reads rules from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from palate.config.reader import read_yaml_file
from palate.data.curate.base import RowRule, Rule
from palate.data.curate.batch_rules import BATCH_RULES
from palate.data.curate.row_rules import ROW_RULES
from palate.data.curate.set_rules import SET_RULES
from palate.errors import ConfigError

_KEYS = ("preset", "without", "rules")

RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in (*ROW_RULES, *BATCH_RULES, *SET_RULES)}
"""Every rule by name."""

_PRESETS = {
    # Pairs with a large, clear difference, as in published recipes with a thousand strong pairs.
    "strong": "exact_duplicates contradictions min_length length_difference edit_difference overlap stop_words "
    "more_nouns_and_verbs weak_phrases",
    # Leaves out only rows that are bad for any purpose.
    "clean": "exact_duplicates contradictions near_duplicates formatting_only length_only toxicity personal_data",
}
PRESETS: Mapping[str, tuple[Mapping[str, Mapping[str, Any]], ...]] = {
    preset: tuple({rule: {}} for rule in rules.split()) for preset, rules in _PRESETS.items()
}
"""Lists of rules by preset name, in the order in which they are applied."""


def rules_help() -> str:
    """The help text: description, thresholds and defaults of every rule, and the presets."""
    lines = []
    for name, rule in RULES.items():
        first = (rule.__doc__ or "").splitlines()[0]
        lines.append(f"{name}\n    {first}")
        if issubclass(rule, RowRule) and rule.languages:
            lines.append(f"    supports {', '.join(rule.languages)}; rows in other languages are kept and counted")
        for key, field in rule.model_fields.items():
            default = "required" if field.is_required() else _shown(field.default)
            lines.append(f"    {key}: {default}    {field.description}")
    lines.append("")
    for name, rules in PRESETS.items():
        lines.append(f"preset {name}: {', '.join(key for entry in rules for key in entry)}")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        shown = ", ".join(map(str, value[:4]))
        return f"[{shown}{', …' if len(value) > 4 else ''}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_rules(config: str | Path | Mapping[str, Any] | None = None, *, preset: str | None = None) -> list[Rule]:
    """Read rules from a YAML file (or its content), a preset, or both; returns them in order.

    In the file, `preset:` names the preset to start from, `without:` lists rules to leave out, and `rules:` is a list
    of names or of `name: {threshold: value}`. A rule that is also in the preset keeps its position there and gets the
    file's thresholds.
    """
    where, content = _content(config)
    unknown = next((key for key in content if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"{where}: unknown key {unknown!r}; known are {', '.join(_KEYS)}")
    chosen = content.get("preset") or preset
    if preset is not None and chosen != preset:
        raise ConfigError(f"{where}: names the preset {chosen!r}, the command {preset!r}; keep one of them")
    if chosen is not None and chosen not in list(PRESETS):
        raise ConfigError(f"{where}: unknown preset {chosen!r}; known are {', '.join(PRESETS)}")
    found: dict[str, Rule] = {}
    entries = _entries(content.get("rules"), where)
    names = [name for entry in entries for name in entry]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: rules names {twice!r} twice; keep one of them")
    for entry in [*(PRESETS[chosen] if chosen else ()), *entries]:
        ((name, settings),) = entry.items()
        found[name] = _rule(name, settings, where)
    for name in _left_out(content.get("without"), where):
        if name not in found:
            raise ConfigError(f"{where}: without names {name!r}, which is not among the rules")
        del found[name]
    if not found:
        raise ConfigError(f"{where}: no rules; name a preset ({', '.join(PRESETS)}) or list rules")
    return list(found.values())


def _content(config: str | Path | Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    if config is None or isinstance(config, Mapping):
        return "rules", config or {}
    path = Path(config)
    content = read_yaml_file(path)
    if isinstance(content, list):
        content = {"rules": content}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: must have preset: or rules:")
    return str(path), content


def _entries(rules: Any, where: str) -> list[Mapping[str, Any]]:
    if rules is None:
        return []
    if isinstance(rules, Mapping):
        return [{name: settings} for name, settings in rules.items()]
    if not isinstance(rules, list):
        raise ConfigError(f"{where}: rules must be a list of names or of name: {{threshold: value}}")
    entries: list[Mapping[str, Any]] = []
    for rule in rules:
        if isinstance(rule, str):
            entries.append({rule: {}})
        elif isinstance(rule, Mapping) and len(rule) == 1:
            entries.append(rule)
        else:
            raise ConfigError(f"{where}: a rule is a name or one name: {{threshold: value}}, not {rule!r}")
    return entries


def _left_out(names: Any, where: str) -> list[str]:
    names = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: without must be a list of rules")
    return names


def _rule(name: Any, settings: Any, where: str) -> Rule:
    kind = RULES.get(name)
    if kind is None:
        near = get_close_matches(str(name), RULES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(RULES)}"
        raise ConfigError(f"{where}: there is no rule {name!r}{hint}")
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"{where}: {name} must be followed by {{threshold: value}}, not {settings!r}")
    try:
        return kind(**{str(key): value for key, value in (settings or {}).items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields) or "no thresholds"
            raise ConfigError(f"{where}: {name} has no threshold {key!r}; it has {known}") from None
        message = first["msg"].replace("a valid tuple", "a list")
        raise ConfigError(f"{where}: {name}.{key}: {message}") from None
