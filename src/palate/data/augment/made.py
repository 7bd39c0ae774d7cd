"""Builds a new pair from an existing one or from a prompt alone, with a record of how it was made."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from palate.data.augment.answers import AnswerFile, KeptAnswer, ModelSource
from palate.data.formats.rows import same_text
from palate.data.turns.cells import RowError
from palate.data.turns.messages import assistant
from palate.records import Dropped, Messages, PreferencePair, Record, prompt_key

Outcome: TypeAlias = PreferencePair | Dropped


@dataclass(frozen=True, slots=True)
class Made:
    """How a row was made; stored with the row.

    Attributes:
        how: name of the method (`swapped_numbers`, `sampled` …).
        source: id of the original row.
        model: the model that wrote the row; "" if a rule made it.
        seed: random seed.
        note: what was changed.
    """

    how: str
    source: str
    model: str = ""
    seed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class WrittenBy:
    """The model that wrote one text of a row.

    Attributes:
        text: `chosen`, `rejected` or `critique`.
        model: its name.
        identity: content hash of its weights; None if an engine does not tell.
        finish_reason: `stop`, `length` if the text was truncated, or the engine's own word.
    """

    text: str
    model: str
    identity: str | None
    finish_reason: str


@dataclass(frozen=True, slots=True)
class MadeByModels(Made):
    """How a row was made from a prompt by models.

    Attributes:
        written_by: the model of each text.
        decoding: the settings that the texts were sampled with.
        principle: what the first answer was criticised against; "" if it was not.
        critique: the criticism.
    """

    written_by: tuple[WrittenBy, ...] = ()
    decoding: Mapping[str, Any] = field(default_factory=dict)
    principle: str = ""
    critique: str = ""


def new_pair(record: PreferencePair, made: Made, **changed: Any) -> PreferencePair:
    """A new pair: the record with other prompt, `chosen` or `rejected`, and without margin and dimensions.

    Raises:
        RowError: `unchanged`, if the new pair has the same texts as the old one, or its two answers are equal.
    """
    extra = {**record.extra, "made": asdict(made)}
    pair = replace(record, id=f"{record.id}#{made.how}", margin=None, dimensions=None, extra=extra, **changed)
    if any(answer[-1].is_empty for answer in (pair.chosen, pair.rejected)):
        raise RowError("unchanged", f"{made.how} leaves an empty answer")
    if same_text(pair.chosen, pair.rejected):
        raise RowError("unchanged", f"{made.how} makes chosen and rejected equal")
    same_answers = same_text(pair.chosen, record.chosen) and same_text(pair.rejected, record.rejected)
    if same_answers and prompt_key(pair.prompt) == prompt_key(record.prompt):
        raise RowError("unchanged", f"{made.how} changes nothing")
    return pair


def with_last(answer: Messages, content: str) -> Messages:
    """The answer with this text as its last turn."""
    return (*answer[:-1], replace(answer[-1], content=content))


def rng_for(seed: int, *names: str) -> random.Random:
    """A random generator that depends only on the seed and the names."""
    return random.Random("\0".join((str(seed), *names)))  # noqa: S311


def made_of(extra: Mapping[str, object]) -> Mapping[str, object] | None:
    """The record of how a row was made; None for an original row."""
    made = extra.get("made")
    return made if isinstance(made, Mapping) else None


class Recipe(Protocol):
    """A way to make pairs from prompts alone, by asking models."""

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


def pair_from_answers(record: Record, made: MadeByModels, chosen: Messages, rejected: Messages) -> PreferencePair:
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
