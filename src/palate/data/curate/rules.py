"""What a rule is, and the table of all of them with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palate.data.curate.base import BatchRule, RowRule, Rule, SetRule
from palate.data.curate.file_rules import FILE_RULES
from palate.data.curate.row_rules import ROW_RULES
from palate.data.curate.set_rules import SET_RULES

__all__ = ["PRESETS", "RULES", "BatchRule", "RowRule", "Rule", "SetRule", "rules_help"]

RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in (*ROW_RULES, *FILE_RULES, *SET_RULES)}
"""Every rule by its name in a YAML file."""

PRESETS: Mapping[str, tuple[Mapping[str, Mapping[str, Any]], ...]] = {
    # Pairs whose difference is large and plainly worded, as in the known recipes of a thousand strong pairs.
    "strong": (
        {"exact_duplicates": {}},
        {"contradictions": {}},
        {"min_length": {}},
        {"length_difference": {}},
        {"edit_difference": {}},
        {"overlap": {}},
        {"stop_words": {}},
        {"more_nouns_and_verbs": {}},
        {"weak_phrases": {}},
    ),
    # Nothing but what nobody wants to train on.
    "clean": (
        {"exact_duplicates": {}},
        {"contradictions": {}},
        {"near_duplicates": {}},
        {"formatting_only": {}},
        {"length_only": {}},
        {"toxicity": {}},
        {"personal_data": {}},
    ),
}
"""Named lists of rules, in the order they are applied."""


def rules_help() -> str:
    """Every rule with what it asks, its thresholds and their defaults."""
    lines = []
    for name, rule in RULES.items():
        first = (rule.__doc__ or "").splitlines()[0]
        lines.append(f"{name}\n    {first}")
        if issubclass(rule, RowRule) and rule.languages:
            lines.append(
                f"    judges answers in {', '.join(rule.languages)}; rows in other languages stay, and are counted"
            )
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
