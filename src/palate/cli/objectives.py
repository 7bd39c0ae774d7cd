"""`palate objectives`: the losses that `pref_loss` may name, with formula, options and known starting value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import typer

from palate.cli.arguments import AsJson
from palate.cli.columns import text_width, two_columns, wrapped
from palate.cli.console import result, result_json
from palate.config.objectives.docs import HEADINGS, ONLINE_HEADING, default_text, plain, plain_online, start_text
from palate.config.objectives.lookup import OBJECTIVES, OPTIONS, Objective, Option, objective
from palate.config.objectives.online import ONLINE_OBJECTIVES, OnlineObjective

Name: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="One objective, with its options; default: all.")
]

Full: TypeAlias = Annotated[bool, typer.Option("--full", help="All of them as one is shown.")]

SYMBOLS = (
    "a, b: sums of log π of chosen and rejected, a0, b0 under the reference, nc, nr their tokens, ā = a/nc;\n"
    "Δc = a − a0, Δr = b − b0, Δ = Δc − Δr; lσ: log-sigmoid; ε: label smoothing; u: the log-ratio of one answer;\n"
    "r: a reward; A: advantage; ρ: π over π at sampling; c, k, v: cliprange, kl_coef, vf_coef; V, R: value, return.\n"
    "`palate objectives NAME` (or --full) has modifiers, sources, whose option each reproduces, and when to take it."
)


def command(name: Name = None, full: Full = False, as_json: AsJson = False) -> None:
    """List the objectives, or show one: its loss, options, loss at step 0, source, and whose option it equals."""
    if name is not None and name.strip().lower() in ONLINE_OBJECTIVES:
        online = ONLINE_OBJECTIVES[name.strip().lower()]
        if as_json:
            result_json(plain_online(online))
        else:
            result(one_online(online))
    elif name is not None:
        row = objective(name)
        if as_json:
            result_json(plain(row))
        else:
            result(one(row))
    elif as_json:
        online_rows = [plain_online(row) for row in ONLINE_OBJECTIVES.values()]
        result_json({"objectives": [*(plain(row) for row in OBJECTIVES.values()), *online_rows]})
    elif full:
        shown = [*map(one, OBJECTIVES.values()), *map(one_online, ONLINE_OBJECTIVES.values())]
        result("\n\n".join(shown))
    else:
        result(all_objectives())


def all_objectives() -> str:
    """All objectives by family: what each is, its formula, whether it needs a reference, its own options."""
    parts = []
    for family, heading in HEADINGS.items():
        lines: list[tuple[str, str]] = []
        for row in OBJECTIVES.values():
            if row.family == family:
                lines += [(row.name, row.summary), ("", row.formula), ("", _needs(row))]
        parts.append("\n".join([f"{heading}:", *two_columns(lines, width=text_width())]))
    lines = [
        line
        for row in ONLINE_OBJECTIVES.values()
        for line in ((row.name, row.summary), ("", row.formula), ("", f"needs a reference; {', '.join(row.options)}"))
    ]
    parts.append("\n".join([f"{ONLINE_HEADING}:", *two_columns(lines, width=text_width())]))
    return "\n\n".join([*parts, wrapped(SYMBOLS, hang=2, width=text_width())])


def _needs(row: Objective) -> str:
    options = ", ".join(f"{key} {default_text(option)}" for key, option in row.options.items())
    needs = [options or "no options of its own"]
    if row.family != "reward":
        needs.insert(0, "needs a reference" if row.needs_reference else "needs no reference")
    return "; ".join(needs)


def one(row: Objective) -> str:
    """One objective, as a person asks for it."""
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
    parts = ["\n".join([f"{row.name}: {row.summary}", *two_columns(facts, width=text_width())])]
    if row.options:
        parts.append("\n".join(["options:", *two_columns(_option_lines(row.options), width=text_width())]))
    if row.modifiers:
        modifiers = _option_lines({key: OPTIONS[key] for key in row.modifiers})
        parts.append("\n".join(["modifiers:", *two_columns(modifiers, width=text_width())]))
    return "\n\n".join(parts)


def one_online(row: OnlineObjective) -> str:
    """One of the online stages' objectives."""
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
    return "\n".join([f"{row.name}: {row.summary}", *two_columns(facts, width=text_width())])


def _option_lines(options: Mapping[str, Option]) -> list[tuple[str, str]]:
    return [(key, f"{default_text(option)}, in {option.range}: {option.doc}") for key, option in options.items()]
