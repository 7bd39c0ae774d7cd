"""The objectives' table as people and machines read it: Markdown for docs/objectives.md, plain values for --json."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palate.config.objectives.online import ONLINE_OBJECTIVES, OnlineObjective
from palate.config.objectives.options import OPTIONS, Option
from palate.config.objectives.table import OBJECTIVES, Objective

ONLINE_HEADING = "On answers that the policy samples (stages, no values of pref_loss)"
HEADINGS = {
    "paired": "On pairs (chosen, rejected)",
    "ranked": "On rankings, best first",
    "unpaired": "On single answers, wanted or unwanted",
    "reward": "For reward models",
}


def markdown_table() -> str:
    """Everything that the tables say, as Markdown: objectives by family, then all options."""
    parts = []
    for family, heading in HEADINGS.items():
        rows = [row for row in OBJECTIVES.values() if row.family == family]
        parts.append(f"## {heading}\n\n{_losses(rows)}\n\n{_advice(rows)}")
    parts.append(f"## {ONLINE_HEADING}\n\n{_online()}")
    parts.append(f"## Options\n\n{_options()}")
    return "\n\n".join(parts) + "\n"


def plain(row: Objective) -> dict[str, Any]:
    """One objective as values that JSON has; `loss_at_start` is that of the default options, on two completions."""
    defaults = {key: option.default for key, option in row.all_options.items()}
    return {
        "name": row.name,
        "family": row.family,
        "formula": row.formula,
        "summary": row.summary,
        "options": {key: _plain_option(option) for key, option in row.options.items()},
        "modifiers": {key: _plain_option(OPTIONS[key]) for key in row.modifiers},
        "needs_reference": row.needs_reference,
        "couples_batch": row.couples_batch,
        "length_normalised": row.length_normalised,
        "loss_at_start": row.loss_at_start(defaults),
        "source": f"arXiv:{row.source}",
        "reproduces": row.reproduces,
        "when_to_use": row.when_to_use,
    }


def plain_online(row: OnlineObjective) -> dict[str, Any]:
    """The same of an online one."""
    return {**asdict(row), "family": "online", "source": f"arXiv:{row.source}", "needs_reference": True}


def default_text(option: Option) -> str:
    """An option's default as one writes it in YAML; `required` or `none` where there is none."""
    if option.default is None:
        return "required" if option.required else "none"
    if isinstance(option.default, bool):
        return str(option.default).lower()
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def start_text(row: Objective) -> str:
    """The loss at step 0 with default options, four decimals; a dash where the data decide."""
    loss = row.loss_at_start({key: option.default for key, option in row.all_options.items()})
    return "–" if loss is None else f"{loss:.4f}"


def _plain_option(option: Option) -> dict[str, Any]:
    return {"default": option.default, "range": option.range, "required": option.required, "doc": option.doc}


def _losses(rows: Iterable[Objective]) -> str:
    header = ("name", "loss of one example", "its own options", "loss at step 0", "reference", "source")
    return _table(
        header,
        (
            (
                f"`{row.name}`",
                row.formula,
                ", ".join(f"`{key}` {default_text(option)}" for key, option in row.options.items()) or "none",
                start_text(row),
                "yes" if row.needs_reference else "no",
                f"[{row.source}](https://arxiv.org/abs/{row.source})",
            )
            for row in rows
        ),
    )


def _online() -> str:
    header = (
        "name",
        "chosen by",
        "loss of one token",
        "options",
        "what it is",
        "when to use it",
        "whose it reproduces",
    )
    return _table(
        (*header, "source"),
        (
            (
                f"`{row.name}`",
                f"`{row.choice}`",
                row.formula,
                ", ".join(f"`{key}`" for key in row.options),
                row.summary,
                row.when_to_use,
                row.reproduces,
                f"[{row.source}](https://arxiv.org/abs/{row.source})",
            )
            for row in ONLINE_OBJECTIVES.values()
        ),
    )


def _advice(rows: Iterable[Objective]) -> str:
    header = ("name", "what it is", "when to use it", "whose option it reproduces", "read over")
    return _table(
        header,
        (
            (
                f"`{row.name}`",
                row.summary,
                row.when_to_use,
                row.reproduces,
                "the step" if row.couples_batch else "the example",
            )
            for row in rows
        ),
    )


def _options() -> str:
    return _table(
        ("key", "allowed", "default", "meaning", "used by"),
        (
            (f"`{key}`", option.range, default_text(option), option.doc, ", ".join(_users(key)))
            for key, option in OPTIONS.items()
        ),
    )


def _users(key: str) -> list[str]:
    """Who reads an option, each with its own default where that differs."""
    users: Mapping[str, Option] = {n: row.all_options[key] for n, row in OBJECTIVES.items() if key in row.all_options}
    general = OPTIONS[key].default
    return [f"{n} ({default_text(o)})" if o.default != general else n for n, o in users.items()]


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


BEGIN, END = "<!-- from config/objectives: begin -->", "<!-- from config/objectives: end -->"


def with_table(page: str) -> str:
    """`page` with what stands between its two markers replaced by the current table."""
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n\n{markdown_table()}\n{END}{after}"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(with_table(_page.read_text(encoding="utf-8")), encoding="utf-8")
