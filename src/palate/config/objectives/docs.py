"""The objectives' tables as Markdown for docs/objectives.md and as plain values for --json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from palate.artifacts.markdown import with_generated
from palate.config.objectives.online import ONLINE_OBJECTIVES, OnlineObjective
from palate.config.objectives.options import OPTIONS, Option
from palate.config.objectives.row import Objective
from palate.config.objectives.table import OBJECTIVES

Row = TypeVar("Row")

ONLINE_HEADING = "On answers that the policy samples (chosen by stage, not by pref_loss)"
HEADINGS = {
    "paired": "On pairs (chosen, rejected)",
    "ranked": "On rankings, best first",
    "unpaired": "On single answers, desirable or undesirable",
    "reward": "For reward models",
}


def plain(row: Objective) -> dict[str, Any]:
    """One objective as JSON values; `loss_at_start` is for the default options and two answers."""
    facts = ("name", "family", "formula", "summary", "needs_reference", "couples_batch", "length_normalised")
    return {
        **{name: getattr(row, name) for name in (*facts, "reproduces", "when_to_use")},
        "options": {key: _plain_option(option) for key, option in row.options.items()},
        "modifiers": {key: _plain_option(OPTIONS[key]) for key in row.modifiers},
        "loss_at_start": row.loss_at_start(row.defaults),
        "source": f"arXiv:{row.source}",
    }


def plain_online(row: OnlineObjective) -> dict[str, Any]:
    """One online objective as JSON values."""
    return {**asdict(row), "family": "online", "source": f"arXiv:{row.source}", "needs_reference": True}


def default_text(option: Option) -> str:
    """An option's default as in YAML; `required` or `none` where there is none."""
    if option.default is None:
        return "required" if option.required else "none"
    if isinstance(option.default, bool):
        return str(option.default).lower()
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def start_text(row: Objective) -> str:
    """The loss at step 0 with default options, four decimals; a dash where it depends on the data."""
    loss = row.loss_at_start(row.defaults)
    return "–" if loss is None else f"{loss:.4f}"


def _plain_option(option: Option) -> dict[str, Any]:
    return {name: getattr(option, name) for name in ("default", "range", "required", "doc")}


def _options_text(options: Mapping[str, Option]) -> str:
    return ", ".join(f"`{key}` {default_text(option)}" for key, option in options.items()) or "none"


def _source(row: Objective | OnlineObjective) -> str:
    return f"[{row.source}](https://arxiv.org/abs/{row.source})"


def _users(key: str) -> str:
    """The objectives that read an option, each with its own default where that differs."""
    general = OPTIONS[key].default
    users = {name: row.all_options[key] for name, row in OBJECTIVES.items() if key in row.all_options}
    return ", ".join(f"{n} ({default_text(o)})" if o.default != general else n for n, o in users.items())


# Columns of the tables: heading → a row's cell.
LOSSES: Mapping[str, Callable[[Objective], str]] = {
    "name": lambda row: f"`{row.name}`",
    "loss of one example": lambda row: row.formula,
    "its own options": lambda row: _options_text(row.options),
    "loss at step 0": start_text,
    "reference": lambda row: "yes" if row.needs_reference else "no",
    "source": _source,
}
ADVICE: Mapping[str, Callable[[Objective], str]] = {
    "name": lambda row: f"`{row.name}`",
    "description": lambda row: row.summary,
    "when to use it": lambda row: row.when_to_use,
    "same as": lambda row: row.reproduces,
    "computed on": lambda row: "the step" if row.couples_batch else "the example",
}
ONLINE: Mapping[str, Callable[[OnlineObjective], str]] = {
    "name": lambda row: f"`{row.name}`",
    "chosen by": lambda row: f"`{row.choice}`",
    "loss of one token": lambda row: row.formula,
    "options": lambda row: ", ".join(f"`{key}`" for key in row.options),
    "description": lambda row: row.summary,
    "when to use it": lambda row: row.when_to_use,
    "same as": lambda row: row.reproduces,
    "source": _source,
}
OPTION_COLUMNS: Mapping[str, Callable[[str], str]] = {
    "key": lambda key: f"`{key}`",
    "allowed": lambda key: OPTIONS[key].range,
    "default": lambda key: default_text(OPTIONS[key]),
    "meaning": lambda key: OPTIONS[key].doc,
    "used by": _users,
}


def _table(columns: Mapping[str, Callable[[Row], str]], rows: Iterable[Row]) -> str:
    cells = [[cell(row).replace("|", "\\|") for cell in columns.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *cells))


def markdown_table() -> str:
    """All tables as Markdown: the objectives of each family, then the options."""
    parts = []
    for family, heading in HEADINGS.items():
        rows = [row for row in OBJECTIVES.values() if row.family == family]
        parts.append(f"## {heading}\n\n{_table(LOSSES, rows)}\n\n{_table(ADVICE, rows)}")
    parts.append(f"## {ONLINE_HEADING}\n\n{_table(ONLINE, ONLINE_OBJECTIVES.values())}")
    parts.append(f"## Options\n\n{_table(OPTION_COLUMNS, OPTIONS)}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(with_generated(_page.read_text(encoding="utf-8"), markdown_table()), encoding="utf-8")
