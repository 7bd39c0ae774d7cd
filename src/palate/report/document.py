"""A report as data: sections of text, charts and tables, written as HTML, Markdown and JSON with the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import plain, write_json, write_text
from palate.artifacts.markdown import escaped, markdown_table
from palate.charts.text import number
from palate.report.curves import Drawing
from palate.report.html import render
from palate.report.key_figures import Card
from palate.report.tables import Cell, Figure, Link, Table

VERSION = 1
"""Of the JSON form."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two answers to a prompt.

    Attributes:
        title: of the prompt, with `note` beside it.
        prompt: its turns, as `{role, content}`.
        answers: (label, text) of each.
        lines: what was said about them.
    """

    title: str
    note: str
    prompt: Sequence[Mapping[str, Any]]
    answers: Sequence[tuple[str, str]]
    lines: Sequence[str] = ()

    def markdown(self) -> str:
        """The same as Markdown, texts as quotations."""
        texts = [(str(turn["role"]), str(turn["content"])) for turn in self.prompt] + list(self.answers)
        quoted = [f"{escaped(label)}:\n\n> {escaped(text)}" for label, text in texts]
        return "\n\n".join([f"**{escaped(self.title)}** {escaped(self.note)}", *quoted, *map(escaped, self.lines)])


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document; what a chart shows also stands in one of its tables.

    Attributes:
        key: unique in the document, for links.
        title: heading.
        lines: sentences above the tables.
        charts: (title, chart); in HTML only.
        tables: (caption, table).
        texts: answers side by side.
    """

    key: str
    title: str
    lines: Sequence[str] = ()
    charts: Sequence[Drawing] = ()
    tables: Sequence[tuple[str, Table]] = ()
    texts: Sequence[AnswerPair] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Attributes:
        kind: above the title.
        title, subtitle: of the whole.
        cards: the key figures.
        notes: what a reader must know before believing the figures.
        sections: in their order.
        verdict: class of its colour (`right`, `wrong`, `unclear`) and sentence; None without one.
    """

    kind: str
    title: str
    subtitle: str
    cards: Sequence[Card]
    notes: Sequence[str]
    sections: Sequence[Section]
    verdict: tuple[str, str] | None = None

    def html(self) -> str:
        """One self-contained page."""
        return render("document.html", document=self, title=self.title)

    def markdown(self) -> str:
        """The same as Markdown; charts are left out, because their values are in the tables."""
        parts = [f"# {escaped(self.title)}", escaped(self.subtitle)]
        parts += [f"**{escaped(self.verdict[1])}**"] if self.verdict else []
        parts.append("\n".join(f"- **{escaped(card.label)}**: {escaped(str(card))}" for card in self.cards))
        if self.notes:
            parts += ["## Read this first", "\n".join(f"- {escaped(note)}" for note in self.notes)]
        for section in self.sections:
            parts.append(f"## {escaped(section.title)}")
            parts += [escaped(line) for line in section.lines]
            for caption, table in section.tables:
                parts += [*([f"**{escaped(caption)}**"] if caption else []), table_markdown(table)]
            parts += [text.markdown() for text in section.texts]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_json(self) -> dict[str, Any]:
        """The same as JSON: each table is a list of rows by column, and a figure has its numbers."""
        sections = {
            section.key: {
                "title": section.title,
                "lines": list(section.lines),
                "tables": [
                    {"caption": caption, "rows": _rows(table), "more": table.more} for caption, table in section.tables
                ],
                **({"texts": [asdict(one) for one in section.texts]} if section.texts else {}),
            }
            for section in self.sections
        }
        cards = [{"label": card.label, "figure": card.figure, "note": card.note} for card in self.cards]
        facts = {"kind": self.kind, "version": VERSION, "title": self.title, "subtitle": self.subtitle}
        return {**facts, "cards": cards, "notes": list(self.notes), "sections": sections}

    def write(self, page: Path) -> list[Path]:
        """Write `page`, and its twins with the endings `.md` and `.json`; returns the paths."""
        return [
            write_text(page, self.html()),
            write_text(page.with_suffix(".md"), self.markdown()),
            write_json(page.with_suffix(".json"), plain(self.to_json())),
        ]


def table_markdown(table: Table) -> str:
    text = markdown_table(table.columns, ([_text(cell) for cell in row] for row in table.rows), table.numeric)
    return f"{text}\n\n… and {table.more:,} more" if table.more else text


def _text(cell: Cell) -> str:
    if isinstance(cell, int):
        return number(float(cell))
    return cell.text if isinstance(cell, Link) else str(cell)


def _rows(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, map(_value, row), strict=True)) for row in table.rows]


def _value(cell: Cell) -> Any:
    if isinstance(cell, Figure):
        found = cell.interval
        return {"estimate": found.estimate, "low": found.low, "high": found.high, "n": found.n, "unit": cell.unit}
    return cell if isinstance(cell, int) else _text(cell)
