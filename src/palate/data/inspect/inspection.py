"""The result of an inspection, as frozen types that can be written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palate.records import SourceReport
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class Sample:
    """One row with a problem: its id and a short description."""

    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes:
        name: a short stable name.
        title: what is wrong.
        count: number of rows with the problem.
        share: their share of all rows read, 0 … 1.
        samples: the first of these rows.
        remedy: what to do about it.
    """

    name: str
    title: str
    count: int
    share: float
    samples: tuple[Sample, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Distribution of numbers: count, mean, 5th, 50th and 95th percentile, maximum."""

    count: int
    mean: float
    low: float
    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The distribution of these numbers, None if there are none."""
        if not len(values):
            return None
        data = np.asarray(values, dtype=float)
        low, median, high = (float(value) for value in np.percentile(data, [5, 50, 95]))
        return cls(len(data), float(data.mean()), low, median, high, float(data.max()))


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Lengths in tokens of a model's tokenizer.

    Attributes:
        cutoff_len: longest prompt + completion that training would keep, in tokens.
        prompt, completion, row: spreads; a row is the prompt with its longest completion.
        over: rows longer than `cutoff_len`, which training would truncate or drop.
        hopeless: rows whose completion alone is longer than `cutoff_len`.
        total: all tokens, each prompt once.
    """

    cutoff_len: int
    prompt: Spread | None
    completion: Spread | None
    row: Spread | None
    over: int
    hopeless: int
    total: int


@dataclass(frozen=True, slots=True)
class PromptCluster:
    """Prompts about one topic: its most distinctive words, and its number and share of the sampled prompts."""

    words: tuple[str, ...]
    prompts: int
    share: float


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row for the page, private data masked.

    Attributes:
        id: id of the row.
        turns: (role, text) of the prompt.
        answers: (`chosen`, `rejected`, `best`, … and text).
        problems: names of the problems that list this row as a sample.
    """

    id: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known about a dataset before training.

    Attributes:
        sources: the files read, their formats, and dropped rows.
        rows, records: rows read and records made.
        kinds: records by kind (`pairs` …).
        prompts: number of different prompts.
        languages: records by language of the prompt; `und` if there is too little text.
        turns: records by number of prompt messages.
        systems: the most frequent system texts and their counts; `different_systems`: number of different ones.
        characters: lengths in characters of `prompt`, and of `chosen` and `rejected` or `completion`.
        longer_is_chosen: share of pairs whose longer answer is chosen, among those of different length, with its 95 %
            interval (clusters: prompts).
        first_won: share of pairs in which the answer shown first won, with its interval, if the source has the order.
        labels: numbers of desirable and undesirable completions.
        margins: stated margins.
        overlap: word overlap of chosen and rejected, Jaccard 0 … 1.
        tokens: lengths in tokens, if a tokenizer was given.
        improvements: English pairs by what seems to make chosen better; there are no word lists for other languages.
        clusters: topics of the prompts in languages whose stop words are known.
        gaps: topics and kinds of improvement that are rare.
        problems: most frequent first; none with a count of 0.
        shown: texts of rows, if asked for.
    """

    sources: tuple[SourceReport, ...]
    rows: int
    records: int
    kinds: Mapping[str, int]
    prompts: int
    languages: Mapping[str, int]
    turns: Mapping[int, int]
    systems: Mapping[str, int]
    different_systems: int
    characters: Mapping[str, Spread]
    longer_is_chosen: Interval | None
    first_won: Interval | None
    labels: Mapping[str, int]
    margins: Spread | None
    overlap: Spread | None
    tokens: TokenLengths | None
    improvements: Mapping[str, int]
    clusters: tuple[PromptCluster, ...]
    gaps: tuple[str, ...]
    problems: tuple[Problem, ...]
    shown: tuple[ShownRow, ...] = ()

    def problem(self, name: str) -> Problem | None:
        """The problem of that name, None if the data does not have it."""
        return next((problem for problem in self.problems if problem.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The inspection as plain JSON values, without the texts of rows."""
        return {name: item for name, item in asdict(self).items() if name != "shown"}
