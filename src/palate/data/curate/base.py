"""The three kinds of rules: on single rows, on batches of rows (with a file or a model), on all remaining rows."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from palate.data.measures.pairs import Measures
from palate.data.measures.similarity import Signature
from palate.records import PreferencePair, Record


@dataclass(frozen=True, slots=True)
class Candidate:
    """The data about a row that rules on all rows need; the row's texts are not kept in memory.

    Attributes:
        id, source: as in the record.
        prompt_hash: hash of the prompt, 8 bytes.
        answers_hash, exchanged_hash: hashes of the answers, in order and in reverse order.
        signature: uint8 [128], MinHash of the last question and the answers.
        overlap: word overlap of the two answers of a pair; None for other records.
        margin: the pair's margin, if the data has one.
    """

    id: str
    source: str
    prompt_hash: bytes
    answers_hash: bytes
    exchanged_hash: bytes
    signature: Signature
    overlap: float | None
    margin: float | None

    @classmethod
    def of(cls, record: Record, measures: Measures) -> Candidate:
        answers = measures.answer_hashes
        return cls(
            id=record.id,
            source=record.source,
            prompt_hash=measures.prompt_hash,
            answers_hash=b"".join(answers),
            exchanged_hash=b"".join(answers[::-1]),
            signature=measures.signature,
            overlap=None if measures.pair is None else measures.pair.overlap,
            margin=record.margin if isinstance(record, PreferencePair) else None,
        )


class Rule(BaseModel):
    """A rule; its fields are thresholds with defaults. The first line of a rule's docstring is its help text.

    Attributes:
        name: in files of rules: the name of its class in lower case, `min_length` for `MinLength`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.name = re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()

    def off(self) -> str:
        """The reason why the rule cannot be applied in this installation; "" if it can."""
        return ""


class RowRule(Rule):
    """A rule on single rows; may run in a worker process.

    Attributes:
        languages: ISO 639-1 codes of the supported languages; empty if the rule does not depend on language. A row in
            another language passes and is counted.
    """

    languages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fails(self, record: Record, measures: Measures) -> str:
        """The reason why the row is left out; "" if it is kept."""

    def cannot_judge(self, measures: Measures) -> bool:
        """Whether the rule does not support the language of the answers."""
        return bool(self.languages) and not measures.answers_in(self.languages)


class BatchRule(Rule):
    """A rule that needs a file or a model; runs in the main process on a few hundred rows at a time."""

    @abstractmethod
    def fail_which(self, records: Sequence[Record]) -> list[str]:
        """For each row, the reason why it is left out; "" if it is kept."""


class SetRule(Rule):
    """A rule on all rows that earlier rules have kept."""

    @abstractmethod
    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        """Index and reason of every row to leave out."""
