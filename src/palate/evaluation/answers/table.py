"""Answers of trained models and their reference to the same prompts, side by side."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from palate.artifacts import RunDir, read_jsonl, write_text
from palate.data.turns.cells import RowError
from palate.data.turns.messages import read_turns
from palate.errors import ArtifactError
from palate.records import Message, Messages, Role

INDEX, PROMPT, MODEL, REFERENCE = "index", "Prompt", "DPO Model Output", "Reference Model Output"
_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
# Spreadsheets execute a cell that begins like a formula. List items ("- one") and negative numbers are harmless, unless
# they call another program (`|…!`).
_FORMULA = re.compile(r"[=+@\t\r]|-(?!\s|$|[\d.,]+\s*$)|-.*\|.*!", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """The answers of one run to a prompt.

    Attributes:
        prompt: the conversation so far.
        policy: the latest answer of the trained model.
        reference: the reference's answer; None if the run has no reference.
        step: the step of `policy`.
        earlier: (step, answer) of the earlier samples.
    """

    prompt: Messages
    policy: str
    reference: str | None
    step: int
    earlier: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One prompt and the answers of one or several runs.

    Attributes:
        prompt: the conversation so far.
        outputs: run name → its answer; None if a run did not answer this prompt.
        reference: the reference's answer, or None.
    """

    prompt: Messages
    outputs: Mapping[str, str | None]
    reference: str | None


def prompt_answers(samples: Sequence[Mapping[str, Any]]) -> list[PromptAnswer]:
    """The answers grouped by prompt, in the order of first appearance in `samples.jsonl`.

    A row is `{"step": n, "prompt": [{"role", "content"}, …] or text, "policy": text, "reference": text or null}`.
    """
    by_prompt: dict[Messages, list[Mapping[str, Any]]] = {}
    for row in samples:
        by_prompt.setdefault(_messages(row.get("prompt")), []).append(row)
    found = []
    for prompt, rows in by_prompt.items():
        ordered = sorted(rows, key=_step)
        reference = next((str(row["reference"]) for row in reversed(ordered) if row.get("reference") is not None), None)
        earlier = tuple((_step(row), _text(row.get("policy"))) for row in ordered[:-1])
        found.append(PromptAnswer(prompt, _text(ordered[-1].get("policy")), reference, _step(ordered[-1]), earlier))
    return found


def read_answers(run_dir: Path | str) -> list[PromptAnswer]:
    """Read the answers of a run from its `samples.jsonl`.

    Raises:
        ArtifactError: there is no such run, or it has no samples.
    """
    run = RunDir.open(run_dir)
    if not run.samples.exists():
        raise ArtifactError(
            f"{run.path}: no samples.jsonl; train with sample_prompts above 0 to get answers to compare"
        )
    return prompt_answers(read_jsonl(run.samples))


def side_by_side(runs: Mapping[str, Sequence[PromptAnswer]]) -> list[SideBySide]:
    """Join the answers of runs by prompt, in order of first appearance.

    The reference answer is taken from the first run that has one, because compared runs start from the same model.
    """
    prompts = dict.fromkeys(answer.prompt for answers in runs.values() for answer in answers)
    tables = {name: {answer.prompt: answer for answer in answers} for name, answers in runs.items()}
    rows = []
    for prompt in prompts:
        found = {name: table.get(prompt) for name, table in tables.items()}
        outputs = {name: answer.policy if answer else None for name, answer in found.items()}
        references = [answer.reference for answer in found.values() if answer and answer.reference is not None]
        rows.append(SideBySide(prompt, outputs, references[0] if references else None))
    return rows


def distinct_names(paths: Sequence[Path | str]) -> list[str]:
    """The names of directories, each with as many parent folders as needed to make the names different."""
    found = [Path(path).resolve() for path in paths]
    for depth in range(1, max((len(path.parts) for path in found), default=1) + 1):
        names = ["/".join(path.parts[-depth:]) for path in found]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(found, 1)]


def columns(rows: Sequence[SideBySide], *, stage: str = "dpo") -> list[str]:
    """Column names: for one run `index, Prompt, DPO Model Output, Reference Model Output`, else one column per run."""
    names = list(rows[0].outputs) if rows else [MODEL]
    model = f"{stage.upper()} Model Output"
    return [INDEX, PROMPT, *([model] if len(names) == 1 else names), REFERENCE]


def cells(rows: Sequence[SideBySide]) -> list[list[str]]:
    """The table's rows as plain text, in the order of `columns`."""
    return [
        [str(index), prompt_text(row.prompt), *(_text(output) for output in row.outputs.values()), _text(row.reference)]
        for index, row in enumerate(rows)
    ]


def rich_table(rows: Sequence[SideBySide], *, stage: str = "dpo") -> Table:
    """The table for a terminal; markup in the texts is not interpreted."""
    table = Table(box=box.ROUNDED, show_lines=True, header_style="bold", expand=True)
    for name in columns(rows, stage=stage):
        narrow = name == INDEX
        table.add_column(name, justify="right" if narrow else "left", ratio=None if narrow else 1, overflow="fold")
    for index, row in enumerate(cells(rows)):
        table.add_row(*(Text(printable(text), style="" if text else "dim") for text in (str(index), *row[1:])))
    return table


def blocks(rows: Sequence[SideBySide], *, stage: str = "dpo") -> list[list[tuple[str, str]]]:
    """The rows as (column, text) lines, for terminals too narrow for a table."""
    names = columns(rows, stage=stage)[1:]
    found = []
    for row in rows:
        texts = [prompt_text(row.prompt), *row.outputs.values(), row.reference]
        shown = ["(none)" if text is None else printable(text) or "(empty)" for text in texts]
        found.append(list(zip(names, shown, strict=True)))
    return found


def write_csv(rows: Sequence[SideBySide], path: Path | str, *, stage: str = "dpo") -> Path:
    """Write the table as a CSV file; returns the path."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns(rows, stage=stage))
    writer.writerows([(f"'{text}" if _FORMULA.match(text) else text) for text in row] for row in cells(rows))
    return write_text(path, buffer.getvalue())


def prompt_text(prompt: Messages) -> str:
    """A prompt as one text: a single user turn unchanged, otherwise one `role: text` line per turn."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n".join(f"{message.role}: {message.text}" for message in prompt)


def printable(text: str) -> str:
    """Text without control characters, which could affect the terminal; newlines and tabs stay."""
    return "".join(character for character in text if character in "\n\t " or character.isprintable())


def _messages(prompt: Any) -> Messages:
    turns: Iterable[Any] = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    with suppress(RowError):
        return read_turns(turns, "prompt")
    found = [turn if isinstance(turn, Mapping) else {"content": turn} for turn in turns]
    return tuple(Message(_ROLES.get(str(turn.get("role")), "user"), _text(turn.get("content"))) for turn in found)


def _step(row: Mapping[str, Any]) -> int:
    step = row.get("step")
    return int(step) if isinstance(step, int | float) else 0


def _text(item: Any) -> str:
    return "" if item is None else str(item)
