"""`palate objectives`: the losses that `pref_loss` may name, with formula, options and known starting value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json
from palate.config.objective_docs import HEADINGS, default_text, plain, start_text
from palate.config.objectives import OBJECTIVES, OPTIONS, Objective, Option, objective

Name: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="One objective, with its options; all when left out.")
]


def command(name: Name = None, as_json: AsJson = False) -> None:
    """List the objectives, or show one: its loss, options, loss at step 0, source, and whose option it equals."""
    if name is not None:
        row = objective(name)
        if as_json:
            result_json(plain(row))
        else:
            result(one(row))
    elif as_json:
        result_json({"objectives": [plain(row) for row in OBJECTIVES.values()]})
    else:
        result(everything())


def everything() -> str:
    """All objectives by family, a line each."""
    parts = []
    for family, heading in HEADINGS.items():
        rows = [(row.name, row.summary) for row in OBJECTIVES.values() if row.family == family]
        parts.append("\n".join([f"{heading}:", *_columns(rows)]))
    return "\n\n".join([*parts, "`palate objectives NAME` shows one with its formula and options."])


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
    parts = ["\n".join([f"{row.name}: {row.summary}", *_columns(facts)])]
    if row.options:
        parts.append("\n".join(["options:", *_columns(_option_lines(row.options))]))
    if row.modifiers:
        parts.append("\n".join(["modifiers:", *_columns(_option_lines({key: OPTIONS[key] for key in row.modifiers}))]))
    return "\n\n".join(parts)


def _option_lines(options: Mapping[str, Option]) -> list[tuple[str, str]]:
    return [(key, f"{default_text(option)}, in {option.range}: {option.doc}") for key, option in options.items()]


def _columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return [f"  {left:<{width}}  {right}" for left, right in rows]
