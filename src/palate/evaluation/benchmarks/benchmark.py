"""What a benchmark is: its items, its metrics, and how it reads its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from palate.errors import DataError
from palate.evaluation.benchmarks.source import DataFile, HubSource
from palate.records import Messages

Kind: TypeAlias = Literal["policy", "reward model", "judge", "engine", "answers"]
"""A model that scores or writes, a judge, a model in an engine, or answers that were recorded before."""
PromptForm: TypeAlias = Literal["plain", "chat", "written"]
"""Given answers are scored after a plain text or in a chat; or the model writes its own answer in a chat."""


@dataclass(frozen=True, slots=True)
class AnswerSets:
    """The right and the wrong answers that one metric compares, as indices into an item's choices."""

    right: tuple[int, ...]
    wrong: tuple[int, ...]

    def top_share(self, scores: Sequence[float]) -> float:
        """1 if the highest score is a right answer's, 0 if a wrong one's; of several equal ones the share of right."""
        top = max(scores[index] for index in (*self.right, *self.wrong))
        right, wrong = (sum(scores[index] == top for index in part) for part in (self.right, self.wrong))
        return right / (right + wrong)


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique in the benchmark's file; the same in every run, so that results can be paired.
        where: file and row, for messages.
        prompt: the conversation that the model answers.
        category: for rates by category; empty if the file has none.
        plain: the same prompt as plain text, for protocols without a chat template; the answer follows directly.
        choices: the answers to score; none if the model writes its own answer.
        sets: by metric, which choices are right and which are wrong.
        target: what a written answer is compared with, such as `safe`.
    """

    id: str
    where: str
    prompt: Messages
    category: str = ""
    plain: str | None = None
    choices: tuple[str, ...] = ()
    sets: Mapping[str, AnswerSets] = field(default_factory=dict)
    target: str = ""


def refuse_repeated(items: Sequence[Item], key: Callable[[Item], str] = lambda item: item.id, what: str = "") -> None:
    """Raises DataError if two items have one id, or one key that is called `what`; names both rows."""
    seen: dict[str, str] = {}
    for item in items:
        if key(item) in seen:
            named = what or f"id {item.id}"
            raise DataError(f"{item.where}: has the {named} of {seen[key(item)]} again; remove one of them")
        seen[key(item)] = item.where


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model returned for an item.

    Attributes:
        scores: of each choice: Σ log π in nats, a reward, or a judge's share of wins.
        tokens: number of scored tokens of each choice; empty where scores are no log-probabilities.
        text: the answer that the model wrote.
        ended: whether that answer ended by itself.
        labels: of that answer, by the judge: name of the question → label.
    """

    scores: tuple[float, ...] = ()
    tokens: tuple[int, ...] = ()
    text: str | None = None
    ended: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def per_token(self) -> tuple[float, ...]:
        """Log-probabilities per token; scores of another kind unchanged."""
        if not self.tokens:
            return self.scores
        return tuple(score / count for score, count in zip(self.scores, self.tokens, strict=True))


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of an item.

    Attributes:
        meaning: for tables and documents.
        grade: whether it is a grade from 1 to 10; otherwise it is a share of 1.
        lower_is_better: whether a lower value is the better one.
    """

    meaning: str
    grade: bool = False
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Labelling:
    """What a judge is asked about an answer that a model wrote.

    Attributes:
        tasks: by name, what the judge has to decide; it ends its reply with a label in double brackets.
        labels: by name, the labels.
        shown: what the judge sees beside the answer, as name → text.
        needed: whether the benchmark cannot be measured without a judge.
    """

    tasks: Mapping[str, str]
    labels: Mapping[str, tuple[str, ...]]
    shown: Callable[[Item], Mapping[str, str]]
    needed: bool = True


@dataclass(frozen=True, slots=True)
class BenchmarkFacts:
    """What all benchmarks have.

    Attributes:
        name: as `palate eval bench` takes it.
        title: its published name.
        paper: arXiv id.
        takes: what can be measured with it.
        files: patterns of its files in a folder; all are read, at least one must be there.
        metrics: by name, in the order of the tables.
        deviations: from the published protocol.
    """

    name: str
    title: str
    paper: str
    takes: tuple[Kind, ...]
    files: tuple[str, ...]
    metrics: Mapping[str, Metric]
    deviations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Benchmark(BenchmarkFacts):
    """A benchmark whose scores need no judge, or which measures judges.

    Attributes:
        hub: where the hub has it.
        read: items from the files, or from the rows of the hub.
        measure: an item's metrics; empty if the outcome cannot be judged.
        protocol: how a question is put to the model, by prompt form; the first is the default.
        separator: between a plain prompt and an answer.
        labelling: of written answers by a judge, if the benchmark has it.
    """

    hub: HubSource
    read: Callable[[Sequence[DataFile]], list[Item]]
    measure: Callable[[Item, Outcome], dict[str, float]]
    protocol: Mapping[PromptForm, str]
    separator: str = " "
    labelling: Labelling | None = None
