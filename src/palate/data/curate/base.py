"""The three kinds of rule: one row alone, many rows at once beside a file or a model, all rows that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from palate.data.measures.pairs import Measures
from palate.data.measures.similarity import Signature
from palate.records import PreferencePair, Record


@dataclass(frozen=True, slots=True)
class Candidate:
    """What rules over all rows may know of a row; its texts are not in memory any more.

    Attributes:
        id, source: the record's.
        prompt_hash: 8 bytes of the prompt.
        answers_hash, exchanged_hash: of the answers in their order, and in the reverse order.
        signature: MinHash of the last question and the answers.
        overlap: word overlap of the two answers of a pair; None of any other record.
        margin: its stated margin, if any.
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
        """What is kept of a record that was measured."""
        answers = measures.completion_hashes
        return cls(
            id=measures.id,
            source=measures.source,
            prompt_hash=measures.prompt_hash,
            answers_hash=b"".join(answers),
            exchanged_hash=b"".join(answers[::-1]),
            signature=measures.signature,
            overlap=None if measures.pair is None else measures.pair.overlap,
            margin=record.margin if isinstance(record, PreferencePair) else None,
        )


class Rule(BaseModel):
    """One rule with its thresholds: the fields, each with a default. The first line of its docstring is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]


class RowRule(Rule):
    """Looks at one row, in whatever process.

    Attributes:
        languages: ISO 639-1 codes of the languages that it can judge; empty for a rule that needs no language. A row
            in another language passes, and is counted.
    """

    languages: ClassVar[tuple[str, ...]] = ()

    def fails(self, record: Record, measures: Measures) -> str:
        """Why the row is left out, for a person; "" if it stays."""
        raise NotImplementedError

    def cannot_judge(self, measures: Measures) -> bool:
        """Whether a row that passes does so because the rule does not know the language of its answers."""
        return bool(self.languages) and not measures.answers_in(self.languages)


class BatchRule(Rule):
    """Looks at rows beside a file or with a model, a few hundred at a time, in the main process."""

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        """Per row why it is left out, for a person; "" if it stays."""
        raise NotImplementedError


class SetRule(Rule):
    """Looks at all rows that earlier rules have left."""

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        """Index and reason of every row to leave out."""
        raise NotImplementedError
