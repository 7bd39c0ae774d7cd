"""Rules that need all rows that are left: duplicates, contradictions, caps, balance, samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palate.data.curate.base import Candidate, SetRule
from palate.data.measures.similarity import near_duplicates
from palate.data.mix import drawn_key


class ExactDuplicates(SetRule):
    """The first of rows with the same texts stays."""

    name: ClassVar[str] = "exact_duplicates"
    of: Literal["row", "prompt"] = Field("row", description="what must differ: the whole row or its prompt")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        first: dict[bytes, str] = {}
        out: dict[int, str] = {}
        for index, row in enumerate(rows):
            key = row.prompt_hash + row.answers_hash if self.of == "row" else row.prompt_hash
            earlier = first.setdefault(key, row.id)
            if earlier != row.id:
                out[index] = f"as {earlier}"
        return out


class NearDuplicates(SetRule):
    """The first of rows that are nearly the same stays (MinHash over the last question and the answers)."""

    name: ClassVar[str] = "near_duplicates"
    threshold: float = Field(0.8, gt=0, le=1, description="estimated Jaccard similarity from which two rows are alike")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        if not rows:
            return {}
        groups = near_duplicates(np.stack([row.signature for row in rows]), self.threshold)
        return {index: f"like {rows[first].id}" for index, first in enumerate(groups) if first != index}


class Contradictions(SetRule):
    """Neither of two rows stays that prefer the same two answers the other way round."""

    name: ClassVar[str] = "contradictions"

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        where: dict[bytes, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            if row.overlap is not None:
                where[row.prompt_hash + row.answers_hash].append(index)
        out: dict[int, str] = {}
        for index, row in enumerate(rows):
            exchanged = row.prompt_hash + row.exchanged_hash
            if row.overlap is not None and exchanged in where:
                out[index] = f"against {rows[where[exchanged][0]].id}"
        return out


class CapPerPrompt(SetRule):
    """At most so many rows for one prompt: those with the largest margin, then the first."""

    name: ClassVar[str] = "cap_per_prompt"
    rows: int = Field(1, ge=1, description="rows that stay for each prompt")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        by_prompt: dict[bytes, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            by_prompt[row.prompt_hash].append(index)
        out: dict[int, str] = {}
        for indices in by_prompt.values():
            ordered = sorted(indices, key=lambda index: (-(rows[index].margin or 0.0), index))
            out.update((index, f"{len(indices)} rows for this prompt") for index in ordered[self.rows :])
        return out


class BalanceSources(SetRule):
    """No source has more than so many times the rows of the smallest; which rows stay is drawn by the seed."""

    name: ClassVar[str] = "balance_sources"
    largest_ratio: float = Field(1.0, ge=1, description="rows of a source over those of the smallest source")
    seed: int = Field(0, description="of the draw")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        counts = Counter(row.source for row in rows)
        allowed = int(self.largest_ratio * min(counts.values(), default=0))
        by_source: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            by_source[row.source].append(index)
        out: dict[int, str] = {}
        for source, indices in by_source.items():
            drawn = sorted(indices, key=lambda index: drawn_key(self.seed, rows[index].id))
            out.update((index, f"{source} has {len(indices)} rows, {allowed} stay") for index in drawn[allowed:])
        return out


class SampleRows(SetRule):
    """So many rows stay: drawn by the seed, or those with the least word overlap or the largest margin."""

    name: ClassVar[str] = "sample"
    rows: int = Field(1000, ge=1, description="rows that stay")
    by: Literal["chance", "overlap", "margin"] = Field("chance", description="which ones stay")
    seed: int = Field(0, description="of the draw")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        def rank(index: int) -> tuple[float, bytes]:
            row = rows[index]
            score = 0.0
            if self.by == "overlap" and row.overlap is not None:
                score = row.overlap
            elif self.by == "margin":
                score = -(row.margin or 0.0)
            return score, drawn_key(self.seed, row.id)

        ordered = sorted(range(len(rows)), key=rank)
        return dict.fromkeys(ordered[self.rows :], f"{self.rows} rows were asked for")


SET_RULES: tuple[type[SetRule], ...] = (
    ExactDuplicates, NearDuplicates, Contradictions, CapPerPrompt, BalanceSources, SampleRows,
)  # fmt: skip
