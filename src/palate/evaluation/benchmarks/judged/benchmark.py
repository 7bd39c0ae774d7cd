"""What a benchmark with a judge is: its questions, its recorded answers, and how it asks a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from palate.evaluation.benchmarks.benchmark import BenchmarkFacts, Item
from palate.evaluation.benchmarks.options import JudgeOptions
from palate.evaluation.benchmarks.results import Published
from palate.evaluation.benchmarks.source import DataFile, DataRow, HubFiles
from palate.evaluation.winrate.items import WinRateItem
from palate.feedback.votes import Vote
from palate.records import Answer, Judge, Message, Messages
from palate.stats import GamedRows


@dataclass(frozen=True, slots=True)
class Question(Item):
    """A question of one turn or more; `prompt` is its first turn.

    Attributes:
        turns: of the user.
        temperature: at which the benchmark samples the answers.
        references: a reference answer to each turn; empty for none.
        difficulty: of AlpacaEval's formula, if its file is given.
    """

    turns: tuple[str, ...] = ()
    temperature: float = 0.0
    references: tuple[str, ...] = ()
    difficulty: float | None = None

    @classmethod
    def asked(cls, name: str, where: str, turns: Sequence[str], category: str, **more: Any) -> Question:
        return cls(name, where, (Message("user", turns[0]),), category, turns=tuple(turns), **more)

    def conversation(self, answers: Sequence[str]) -> Messages:
        """The turns up to the one after the given answers, with these answers between them."""
        found = []
        for number, turn in enumerate(self.turns[: len(answers) + 1]):
            found.append(Message("user", turn))
            if number < len(answers):
                found.append(Message("assistant", answers[number]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """The answers of one model.

    Attributes:
        name: of the model, in tables.
        answers: question id → an answer to each turn.
        missing: question id → why there is none.
        identity: content hash of its weights, if known.
        notes: what a reader must know about them.
    """

    name: str
    answers: Mapping[str, tuple[Answer, ...]]
    missing: Mapping[str, str]
    identity: str | None = None
    notes: tuple[str, ...] = ()

    def to(self, questions: Sequence[Question]) -> AnswerSet:
        """The answers to these questions only."""
        ids = {question.id for question in questions}
        answers = {one: turns for one, turns in self.answers.items() if one in ids}
        return replace(self, answers=answers, missing={one: why for one, why in self.missing.items() if one in ids})

    @property
    def truncated(self) -> list[str]:
        """The questions with an answer that ended at the longest length."""
        return [one for one, turns in self.answers.items() if any(turn.finish_reason == "length" for turn in turns)]

    @property
    def empty(self) -> list[str]:
        """The questions with an answer without text."""
        return [one for one, turns in self.answers.items() if not all(turn.text.strip() for turn in turns)]


@dataclass(frozen=True, slots=True)
class PublishedPrompt:
    """A published question to a judge, with placeholders in braces."""

    system: str
    text: str


@dataclass(frozen=True, slots=True)
class JudgedData:
    """What the files of a benchmark hold.

    Attributes:
        questions: in the file's order.
        baseline: recorded answers that the file brings along.
        prompts: the published questions to a judge, by name.
        notes: what a reader must know about the data.
        gamed: rows of AlpacaEval's gamed baselines.
    """

    questions: list[Question]
    baseline: AnswerSet | None = None
    prompts: Mapping[str, PublishedPrompt] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    gamed: GamedRows | None = None


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """A recorded answer: to which question (id or text), by which model, and the text of each turn."""

    key: str
    model: str
    turns: tuple[str, ...]


Mode: TypeAlias = Literal["grades", "pairs"]


@dataclass(frozen=True, slots=True)
class JudgedBenchmark(BenchmarkFacts):
    """A benchmark whose answers are judged.

    Attributes:
        hub: where the hub has its files.
        size: number of published questions.
        max_new_tokens: longest answer.
        read: the data of the files.
        recorded: a row of recorded answers in the published format.
        baselines: by category, the model whose recorded answers are the published baseline.
        protocol: by mode; the first is the default.
        key: what `RecordedAnswer.key` is compared with; the question's id unless given.
        own_judge: in the mode `pairs`, the judge with the benchmark's own question, if it has one for such a judge.
        grading: in the mode `grades`, what a chat model is sent about the answers to the first turns of a question.
        published: figures of its own definition, from the items and the votes on them.
        style: whether the win rate is also controlled for style.
    """

    hub: HubFiles
    size: int
    max_new_tokens: int
    read: Callable[[Sequence[DataFile], JudgeOptions], JudgedData]
    recorded: Callable[[DataRow], RecordedAnswer]
    protocol: Mapping[Mode, str]
    key: Callable[[Question], str] = lambda question: question.id
    own_judge: Callable[[Judge, JudgedData], Judge] = lambda judge, _data: judge
    published: Callable[[Sequence[WinRateItem], Sequence[Vote], JudgedData, JudgeOptions], Sequence[Published]] = (
        lambda _items, _votes, _data, _judging: ()
    )
    grading: Callable[[Question, Sequence[str], JudgedData], Messages] | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)
    style: bool = False
