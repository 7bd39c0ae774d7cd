"""All problems that an inspection can report, with title and remedy, and their collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from palate.data.inspect.inspection import Problem, Sample

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
        self._first: dict[str, list[Sample]] = {}

    def add(self, name: str, row_id: str, detail: str = "", count: int = 1) -> None:
        """Adds a row with this problem; `count` if it stands for several rows."""
        self._counts[name] += count
        self._keep(name, [Sample(row_id, detail)])

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

    def _keep(self, name: str, samples: list[Sample]) -> None:
        kept = self._first.setdefault(name, [])
        kept += samples[: self._samples - len(kept)]
