"""Objectives as text for `palate objectives`."""

from __future__ import annotations

from collections.abc import Sequence

from palate.cli.columns import two_columns, wrapped
from palate.config.objectives.docs import HEADINGS, ONLINE_HEADING, default_text, start_text
from palate.config.objectives.lookup import OBJECTIVES, OPTIONS, Objective
from palate.config.objectives.online import ONLINE_OBJECTIVES, OnlineObjective

SYMBOLS = (
    "a, b: log-probabilities of chosen and rejected; a0, b0: under the reference; nc, nr: their tokens; ā = a/nc;\n"
    "Δc = a − a0, Δr = b − b0, Δ = Δc − Δr; lσ: log-sigmoid; ε: label smoothing; u: log-ratio of one answer;\n"
    "r: reward; A: advantage; ρ: π over π when sampled; c, k, v: cliprange, kl_coef, vf_coef; V, R: value, return.\n"
    "`palate objectives NAME` (or --full) adds modifiers, papers, the same option in TRL, and when to use it."
)


def all_objectives() -> str:
    """All objectives by family: summary, formula, whether it needs a reference, options."""
    sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*HEADINGS.values(), ONLINE_HEADING)}
    for row in OBJECTIVES.values():
        sections[HEADINGS[row.family]] += [(row.name, row.summary), ("", row.formula), ("", _needs(row))]
    for online in ONLINE_OBJECTIVES.values():
        needs = f"needs a reference; {', '.join(online.options)}"
        sections[ONLINE_HEADING] += [(online.name, online.summary), ("", online.formula), ("", needs)]
    parts = [_section(f"{heading}:", lines) for heading, lines in sections.items()]
    return "\n\n".join([*parts, wrapped(SYMBOLS, hang=2)])


def _needs(row: Objective) -> str:
    options = ", ".join(f"{key} {default_text(option)}" for key, option in row.options.items())
    needs = [options or "no options of its own"]
    if row.family != "reward":
        needs.insert(0, "needs a reference" if row.needs_reference else "needs no reference")
    return "; ".join(needs)


def objective_text(row: Objective) -> str:
    """One objective with its facts, options and modifiers."""
    start = start_text(row)
    facts = [
        ("loss", row.formula),
        ("at step 0", "depends on the data" if start == "–" else f"{start}, with the defaults"),
        ("reads", {"paired": "pairs", "ranked": "rankings", "unpaired": "labelled answers"}.get(row.family, "rewards")),
        ("reference", "needed" if row.needs_reference else "none"),
        ("computed over", "the whole step" if row.couples_batch else "each example by itself"),
        ("units", "nats per token" if row.length_normalised else "nats per completion"),
        ("source", f"arXiv:{row.source}"),
        ("equals", row.reproduces),
        ("use it when", row.when_to_use),
    ]
    if row.family == "reward":
        facts = [fact for fact in facts if fact[0] not in ("units", "reference")]
    parts = [_section(f"{row.name}: {row.summary}", facts)]
    for heading, options in (("options:", row.options), ("modifiers:", {key: OPTIONS[key] for key in row.modifiers})):
        if options:
            lines = [(key, f"{default_text(one)}, in {one.range}: {one.doc}") for key, one in options.items()]
            parts.append(_section(heading, lines))
    return "\n\n".join(parts)


def online_text(row: OnlineObjective) -> str:
    facts = [
        ("loss", row.formula),
        ("chosen by", row.choice),
        ("reads", "prompts, answered by the policy"),
        ("reference", "needed"),
        ("options", ", ".join(row.options)),
        ("source", f"arXiv:{row.source}"),
        ("equals", row.reproduces),
        ("use it when", row.when_to_use),
    ]
    return _section(f"{row.name}: {row.summary}", facts)


def _section(heading: str, lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join([wrapped(heading, hang=2), two_columns(lines)])
