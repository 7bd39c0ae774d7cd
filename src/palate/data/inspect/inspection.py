"""What an inspection finds: named, frozen, and plain enough for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palate.data.load import SourceReport
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that shows a problem: its id, and what is to be seen there."""

    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes:
        name: a short stable name.
        title: what it is, for a person.
        count: rows that have it.
        share: of all rows read, 0 … 1.
        samples: the first few of them.
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
    """How numbers are spread: their count, mean, and 5th, 50th, 95th percentile and largest."""

    count: int
    mean: float
    low: float
    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of some numbers, None of none."""
        if not len(values):
            return None
        data = np.asarray(values, dtype=float)
        low, median, high = (float(value) for value in np.percentile(data, [5, 50, 95]))
        return cls(len(data), float(data.mean()), low, median, high, float(data.max()))


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Lengths in the tokens of a model.

    Attributes:
        cutoff_len: longest prompt + completion that training would keep, in tokens.
        prompt, completion, row: spreads; a row is the prompt with its longest completion.
        over: rows longer than `cutoff_len`, which training would cut or drop.
        hopeless: rows whose completion alone is longer.
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
    """Prompts about one thing: the words that mark it, and how many prompts it has (of those looked at)."""

    words: tuple[str, ...]
    prompts: int
    share: float


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as a page shows it, private data masked.

    Attributes:
        id: of the row.
        turns: (role, text) of the prompt.
        answers: (`chosen`, `rejected`, `best`, … and text).
        problems: names of those that it is a sample of.
    """

    id: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that is known of a dataset before training.

    Attributes:
        sources: what was read, by which format, and what was dropped.
        rows, records: rows read and records made.
        kinds: records by kind (`pairs` …).
        prompts: different prompts.
        languages: records by language of the prompt; `und` where there is too little text to tell.
        turns: records by number of prompt messages.
        systems: the commonest system texts and their counts; `different_systems` how many there are in all.
        characters: spread of lengths, by name (`prompt` apart): `chosen`, `rejected`, or `completion`.
        longer_is_chosen: share of the pairs of different length, with its 95 % interval (clusters: prompts).
        first_won: share, with its interval, where the source says which of two answers was shown first.
        labels: desirable and undesirable completions.
        margins: spread of the stated margins.
        overlap: spread of the lexical overlap of chosen and rejected, Jaccard 0 … 1.
        tokens: lengths in tokens, where a tokenizer was given.
        improvements: pairs in English by what seems to make chosen better; there are no word lists for other languages.
        clusters: what the prompts are about, of those in languages whose small words are known.
        gaps: what hardly occurs, in words.
        problems: most frequent first; none with a count of 0.
        shown: texts of rows, where they were asked for.
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
        """The problem of that name, None where the data does not have it."""
        return next((problem for problem in self.problems if problem.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The inspection as plain JSON values, without the texts of rows."""
        return {name: item for name, item in asdict(self).items() if name != "shown"}
