"""The two kinds of rule: one that looks at a row alone, and one that needs all rows that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from palate.data.measures.pairs import Measures
from palate.records import Record


@dataclass(frozen=True, slots=True)
class Candidate:
    """What rules over all rows may know of a row; its texts are not in memory any more.

    Attributes:
        measures: the row measured.
        margin: its stated margin, if any.
    """

    measures: Measures
    margin: float | None


class Rule(BaseModel):
    """One rule with its thresholds: the fields, each with a default. The first line of its docstring is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]


class RowRule(Rule):
    """Looks at one row.

    A rule that is `heavy` reads files of its own; it stays in the main process instead of being sent to every worker.
    """

    heavy: ClassVar[bool] = False

    def fails(self, record: Record, measures: Measures) -> str:
        """Why the row is left out, for a person; "" if it stays."""
        raise NotImplementedError

    def fail_which(self, records: Sequence[Record], measures: Sequence[Measures]) -> list[str]:
        """`fails` of many rows, for rules that are faster on many at once."""
        return [self.fails(record, one) for record, one in zip(records, measures, strict=True)]


class SetRule(Rule):
    """Looks at all rows that earlier rules have left."""

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        """Index and reason of every row to leave out."""
        raise NotImplementedError
