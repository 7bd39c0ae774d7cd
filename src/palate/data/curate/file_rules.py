"""Rules that compare rows with another file: evaluation data, or what a reference model said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from palate.config.values import PathText
from palate.data.curate.base import BatchRule
from palate.data.curate.embedding import EmbeddingDifference
from palate.data.held_out import evaluation_texts
from palate.data.measures.leaks import EvaluationTexts
from palate.data.measures.pairs import completions
from palate.errors import DataError
from palate.records import Record


class Decontaminate(BatchRule):
    """The prompt's last turn is not in evaluation data: no run of 13 words, no near-duplicate."""

    name: ClassVar[str] = "decontaminate"
    against: tuple[PathText, ...] = Field(description="evaluation files or other datasets")
    answers: bool = Field(False, description="look for the answers too")

    @cached_property
    def _texts(self) -> EvaluationTexts:
        return evaluation_texts(list(self.against))

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        return [self._fails(record) for record in records]

    def _fails(self, record: Record) -> str:
        asked = [record.prompt[-1].content] if record.prompt else []
        if self.answers:
            asked += [message.text for answer in completions(record) for message in answer]
        for text in asked:
            leak = self._texts.find(text)
            if leak is not None:
                return f"{leak.how} as {leak.where}"
        return ""


class ReferenceMargin(BatchRule):
    """Keeps pairs by how the reference model sees them: easy, hard or contradictory.

    A pair's margin is log π_ref(chosen) − log π_ref(rejected) as the file states it: easy from `easy` up, contradictory
    from −`easy` down, hard between.
    """

    name: ClassVar[str] = "reference_margin"
    file: PathText = Field(
        description="what palate data margins wrote: JSON Lines of {id, margin}, ids as in the dataset"
    )
    keep: tuple[Literal["easy", "hard", "contradictory"], ...] = Field(("easy", "hard"), description="which stay")
    easy: float = Field(1.0, gt=0, description="margin from which a pair is easy, in the file's units")
    without: bool = Field(False, description="keep rows that the file does not name")

    @cached_property
    def _margins(self) -> dict[str, float]:
        found: dict[str, float] = {}
        number = 0
        try:
            for line in Path(self.file).read_text(encoding="utf-8").splitlines():
                number += 1
                if line.strip():
                    row = json.loads(line)
                    found[str(row["id"])] = float(row["margin"])
        except OSError as error:
            raise DataError(f"{self.file}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{self.file}, line {number}: is not {{id, margin}}") from None
        return found

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        return [self._fails(record) for record in records]

    def _fails(self, record: Record) -> str:
        margin = self._margins.get(record.id)
        if margin is None:
            return "" if self.without else "the reference has not scored it"
        kind = "easy" if margin >= self.easy else "contradictory" if margin <= -self.easy else "hard"
        return "" if kind in self.keep else f"{kind}: reference margin {margin:.2f}"


FILE_RULES: tuple[type[BatchRule], ...] = (Decontaminate, ReferenceMargin, EmbeddingDifference)
