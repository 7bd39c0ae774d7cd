"""The two sides of a win rate: a model that answers, or recorded answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.errors import DataError, UsageError
from palate.evaluation.answers.answerer import load_answerer
from palate.feedback.candidates import Answerer, Candidates, read_candidates
from palate.feedback.page.chat import split_model
from palate.records import Record, prompt_key

RECORDED = ".jsonl"
"""Ending of a file of recorded answers."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side, as it is named.

    Attributes:
        name: run, checkpoint, model folder, hub id, `openai:MODEL@URL`, or a candidates file.
        model, url: the model, and the engine's URL if it is in an engine.
        recorded: whether the name is that of a candidates file.
    """

    name: str
    model: str
    url: str | None = None
    recorded: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder of a model on this disk."""
        return Path(self.model) if not self.recorded and self.url is None and Path(self.model).is_dir() else None


@dataclass(frozen=True, slots=True)
class SideAnswers:
    """The answers of one side.

    Attributes:
        answers: prompt id → the row whose first completion is the answer.
        missing: prompt id → why there is no answer.
        identities: content hashes of the weights, as far as they are known.
        unused: recorded answers beyond the first of a prompt, and those to prompts that are not asked.
    """

    answers: Mapping[str, Candidates]
    missing: Mapping[str, str]
    identities: frozenset[str]
    unused: int = 0


def read_side(name: str) -> Side:
    """What the name of a side means.

    Raises:
        UsageError: an engine's model or URL is missing, or a candidates file does not exist.
    """
    if name.endswith(RECORDED):
        if not Path(name).is_file():
            raise UsageError(f"{name}: there is no such file of recorded answers; `palate generate` writes them")
        return Side(name, Path(name).stem, recorded=True)
    model, url = split_model(name, None)
    return Side(name, model, url)


def check_different(a: Side, b: Side) -> None:
    """Raises UsageError if both sides are the same by name: a model against itself is no win rate."""
    if (a.model, a.url) == (b.model, b.url) and not a.recorded and not b.recorded:
        raise UsageError(f"{a.name} against itself is no win rate; name two models (both answers would be of one)")
    if a.recorded and b.recorded and Path(a.name).resolve() == Path(b.name).resolve():
        raise UsageError(f"{a.name} against itself is no win rate; name two files")


def check_weights(names: tuple[str, str], identities: tuple[frozenset[str], frozenset[str]]) -> None:
    """Raises UsageError if both sides have the same weights."""
    both = sorted(identities[0] & identities[1])
    if both:
        raise UsageError(
            f"{names[0]} and {names[1]} have the same weights ({both[0][:12]}): the comparison of a model with itself "
            "is no win rate, it measures the judge; `palate judge calibrate` does that"
        )


def load_side(side: Side, *, template: str | None, precision: str) -> Answerer:
    """The loaded model of a side.

    Raises:
        ModelError: the model cannot be loaded. EngineError: the engine cannot be reached, or has another model.
    """
    answerer = load_answerer(side.model, side.url, template=template, precision=precision)
    check = getattr(answerer, "check_model", None)
    if check is not None:
        check()
    return answerer


def recorded_answers(path: str | Path, prompts: Sequence[Record]) -> SideAnswers:
    """The first recorded answer to each prompt: of the row with the same id and prompt, else with the same prompt.

    Raises:
        DataError: the file cannot be read, or has no answer to any of the prompts.
    """
    rows = read_candidates(path)
    by_id = {row.id: row for row in rows}
    by_prompt: dict[tuple[str, str | None], list[Candidates]] = {}
    for row in rows:
        by_prompt.setdefault((prompt_key(row.prompt), row.tools), []).append(row)
    answers: dict[str, Candidates] = {}
    missing: dict[str, str] = {}
    used: set[str] = set()
    for record in prompts:
        key = (prompt_key(record.prompt), record.tools)
        found = by_id.get(record.id)
        if found is None or (prompt_key(found.prompt), found.tools) != key or found.id in used:
            found = next((row for row in by_prompt.get(key, ()) if row.id not in used), None)
        if found is None:
            missing[record.id] = f"{Path(path).name} has no answer"
            continue
        used.add(found.id)
        answers[record.id] = found
    if not answers:
        raise DataError(f"{path}: has no answer to any prompt; name the file of its prompts")
    identities = frozenset(identity for row in answers.values() if (identity := row.origin(0).identity))
    return SideAnswers(answers, missing, identities, sum(len(row.completions) for row in rows) - len(answers))


def prompts_of(path: str | Path) -> list[Record]:
    """The prompts of recorded answers, for a win rate between two files."""
    return [
        Record(id=row.id, prompt=row.prompt, tools=row.tools, extra=dict(row.columns)) for row in read_candidates(path)
    ]
