"""What the ways to make a pair from a prompt alone have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeAlias

from palate.data.augment.answers import AnswerFile, KeptAnswer, ModelSource
from palate.data.augment.made import MadeByModels, WrittenBy
from palate.data.turns.cells import RowError
from palate.data.turns.messages import assistant
from palate.records import Dropped, Messages, PreferencePair, Record

Outcome: TypeAlias = PreferencePair | Dropped


class Recipe(Protocol):
    """Makes pairs from prompts by asking models."""

    @property
    def how(self) -> str:
        """Its name in rows and `data.json`."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything apart from prompts and seed that its rows depend on."""
        ...

    def prepare(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> None:
        """Asks what is asked about all prompts before the first row is made."""
        ...

    def rows(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> list[Outcome]:
        """A pair for each prompt, or why there is none."""
        ...


def ask(answers: AnswerFile, model: ModelSource, prompts: Sequence[Record], seed: int) -> list[KeptAnswer]:
    tools = [record.tools for record in prompts]
    return answers.ask(model, [record.prompt for record in prompts], seed=seed, tools=tools)


def checked_answer(given: KeptAnswer, reason: str = "empty_answer") -> Messages:
    """The answer as a turn; raises RowError if it was refused, or, with this reason, if it is empty."""
    if given.refused:
        raise RowError("refused", given.refused)
    if not given.text:
        raise RowError(reason, "the model wrote no text")
    return assistant(given.text)


def written(text: str, model: ModelSource, given: KeptAnswer) -> WrittenBy:
    """Who wrote one text of a row."""
    return WrittenBy(text, model.name, given.identity, given.answer.finish_reason)


def new_pair(record: Record, made: MadeByModels, chosen: Messages, rejected: Messages) -> PreferencePair:
    """The pair of a record's prompt with two new answers."""
    return PreferencePair(
        id=f"{record.id}#{made.how}",
        prompt=record.prompt,
        chosen=chosen,
        rejected=rejected,
        source=record.source,
        tools=record.tools,
        extra={"made": asdict(made)},
    )


def outcome(record: Record, make: Callable[[], PreferencePair]) -> Outcome:
    """The pair, or the record with the reason why there is none."""
    try:
        return make()
    except RowError as error:
        return Dropped(record.id, error.reason, error.detail)
