"""Rules on all remaining rows: duplicates, contradictions, caps, balance, samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from palate.charts.text import amount
from palate.data.curate.base import Candidate, SetRule
from palate.data.measures.similarity import near_duplicates
from palate.data.mix import drawn_key

K = TypeVar("K")


class ExactDuplicates(SetRule):
    """Keeps the first of rows with the same texts."""

    of: Literal["row", "prompt"] = Field("row", description="what is compared: the whole row or its prompt")

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
    """Keeps the first of rows that are nearly the same (MinHash of the last question and the answers)."""

    threshold: float = Field(0.8, gt=0, le=1, description="least estimated Jaccard similarity of near-duplicates")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        if not rows:
            return {}
        groups = near_duplicates(np.stack([row.signature for row in rows]), self.threshold)
        return {index: f"like {rows[first].id}" for index, first in enumerate(groups) if first != index}


class Contradictions(SetRule):
    """Leaves out both of two rows with the same answers and opposite preference."""

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        pairs = {index: row for index, row in enumerate(rows) if row.overlap is not None}  # only pairs have an overlap
        first: dict[bytes, str] = {}
        for row in pairs.values():
            first.setdefault(row.prompt_hash + row.answers_hash, row.id)
        exchanged = {index: first.get(row.prompt_hash + row.exchanged_hash) for index, row in pairs.items()}
        return {index: f"against {other}" for index, other in exchanged.items() if other is not None}


class CapPerPrompt(SetRule):
    """Keeps at most this number of rows per prompt: those with the largest margin, then the first."""

    rows: int = Field(1, ge=1, description="rows to keep per prompt")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        out: dict[int, str] = {}
        for indices in _grouped(row.prompt_hash for row in rows).values():
            ordered = sorted(indices, key=lambda index: (-(rows[index].margin or 0.0), index))
            out.update((index, f"{len(indices)} rows for this prompt") for index in ordered[self.rows :])
        return out


class BalanceSources(SetRule):
    """Limits each source to this multiple of the rows of the smallest source; the rows to keep are sampled."""

    largest_ratio: float = Field(1.0, ge=1, description="rows of a source relative to those of the smallest source")
    seed: int = Field(0, description="seed of the sample")

    def leaves_out(self, rows: Sequence[Candidate]) -> dict[int, str]:
        by_source = _grouped(row.source for row in rows)
        allowed = int(self.largest_ratio * min(map(len, by_source.values()), default=0))
        out: dict[int, str] = {}
        for source, indices in by_source.items():
            drawn = sorted(indices, key=lambda index: drawn_key(self.seed, rows[index].id))
            out.update((index, f"{source} has {len(indices)} rows, {allowed} are kept") for index in drawn[allowed:])
        return out


class Sample(SetRule):
    """Keeps this number of rows: a random sample, or those with the least word overlap or the largest margin."""

    rows: int = Field(1000, ge=1, description="rows to keep")
    by: Literal["chance", "overlap", "margin"] = Field("chance", description="which rows to keep")
    seed: int = Field(0, description="seed of the sample")

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
        return dict.fromkeys(ordered[self.rows :], f"only {amount(self.rows, 'row is', 'rows are')} kept")


def _grouped(keys: Iterable[K]) -> dict[K, list[int]]:
    """The indices of equal keys, in order."""
    found: dict[K, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        found[key].append(index)
    return found


SET_RULES: tuple[type[SetRule], ...] = (
    ExactDuplicates, NearDuplicates, Contradictions, CapPerPrompt, BalanceSources, Sample,
)  # fmt: skip
