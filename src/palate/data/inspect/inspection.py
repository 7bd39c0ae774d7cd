"""The result of an inspection, as frozen types that can be written as JSON, and the problems that it can report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palate.records import SourceReport
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class ProblemRow:
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
    samples: tuple[ProblemRow, ...]
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

    def as_json(self) -> dict[str, Any]:
        """The inspection as plain JSON values, without the texts of rows."""
        return {name: item for name, item in asdict(self).items() if name != "shown"}


_DROPPED = "they are left out; check how the file was made"

TITLES: Mapping[str, tuple[str, str]] = {
    # Rows that cannot be used at all: the reasons of `Dropped`.
    "equal": ("chosen and rejected are equal", "they are left out: there is nothing to learn from them"),
    "empty_prompt": ("the prompt is empty", _DROPPED),
    "empty_chosen": ("the chosen answer is empty", _DROPPED),
    "empty_rejected": ("the rejected answer is empty", _DROPPED),
    "diverges": ("the two conversations differ before the last turn", "they are left out: they compare dialogues"),
    "tie": ("neither answer was preferred", "they are left out of pairs"),
    "no_label": ("the deciding label is null", "they are left out; choose the label with prefer"),
    # Rows that can be used, but should be checked.
    "duplicate": ("the same row as an earlier one", "palate data curate: exact_duplicates"),
    "near_duplicate": ("nearly the same row as an earlier one", "palate data curate: near_duplicates"),
    "contradiction": ("the same two answers with the opposite label", "curate: contradictions; check the labels"),
    "inconsistent": (
        "an answer is chosen in one row and rejected in another of the same prompt",
        "normal for ranked answers, otherwise check the labels",
    ),
    "many_per_prompt": ("more than ten rows for one prompt", "palate data curate: cap_per_prompt"),
    "formatting_only": ("chosen and rejected differ in formatting only", "they teach formatting: intended?"),
    "length_only": ("one answer is the other one, truncated or repeated", "they teach length: intended?"),
    "near_equal": ("chosen and rejected are nearly the same", "the signal is weak; curate: overlap"),
    "equal_scores": ("chosen and rejected have the same score", "both are equally good or bad; curate: margin"),
    "reversed_scores": ("the chosen answer has the lower score", "check whether a higher score means better"),
    "off_topic": ("the rejected answer is about something else", "too easy to teach much; curate: off_topic"),
    "both_refuse": ("both answers decline", "both are equally bad; curate: refusals"),
    "language_differs": ("chosen and rejected are in different languages", "check that this was preferred on purpose"),
    "secret": ("a key or password", "palate data curate: personal_data; have the key revoked"),
    "personal_data": ("personal data", "palate data curate: personal_data"),
    "toxic_chosen": ("insults or threats in the chosen answer", "palate data curate: toxicity"),
    "toxic_rejected": ("insults or threats in the rejected answer", "expected in safety data"),
    "leak": ("in the evaluation data", "palate data curate: decontaminate; otherwise evaluation results are invalid"),
    "cut": ("longer than cutoff_len", "raise cutoff_len, or let training truncate or drop them"),
    # Properties of the set as a whole; the count is of the rows concerned.
    "length_bias": ("the longer answer is chosen too often", "curate: length_ratio, or a length-normalised loss"),
    "position_bias": ("one of the two positions wins too often", "the labellers may have been biased by the position"),
    "sorted_labels": ("desirable and undesirable answers come in blocks", "shuffle before splitting by row"),
}


class Problems:
    """Counts problems and keeps the first rows of each as samples."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[ProblemRow]] = {}

    def add(self, name: str, row_id: str, detail: str = "", count: int = 1) -> None:
        """Adds a row with this problem; `count` if it stands for several rows."""
        self._counts[name] += count
        self._keep(name, [ProblemRow(row_id, detail)])

    def add_all(self, later: Problems) -> None:
        """Adds the problems of the rows that follow."""
        self._counts.update(later._counts)
        for name, samples in later._first.items():
            self._keep(name, samples)

    def listed(self, rows: int) -> tuple[Problem, ...]:
        """The problems, most frequent first, with their shares of this number of rows."""
        found = []
        for name, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0])):
            title, remedy = TITLES.get(name, (name.replace("_", " "), _DROPPED))
            found.append(Problem(name, title, count, count / rows if rows else 0.0, tuple(self._first[name]), remedy))
        return tuple(found)

    def _keep(self, name: str, samples: list[ProblemRow]) -> None:
        kept = self._first.setdefault(name, [])
        kept += samples[: self._samples - len(kept)]
