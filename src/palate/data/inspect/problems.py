"""Every problem that an inspection knows, with its title and its remedy, and the collecting of rows that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from palate.data.inspect.inspection import Problem, Sample

TITLES: Mapping[str, tuple[str, str]] = {
    # Rows that cannot be used at all: the reasons of `Dropped`.
    "equal": ("chosen and rejected are equal", "they teach nothing; they are left out of training"),
    "empty_prompt": ("the prompt is empty", "they are left out; look at how the file was made"),
    "empty_chosen": ("the chosen answer is empty", "they are left out; look at how the file was made"),
    "empty_rejected": ("the rejected answer is empty", "they are left out; look at how the file was made"),
    "diverges": ("the two conversations part before the last turn", "they are left out: they compare dialogues"),
    "tie": ("neither answer was preferred", "they are left out of pairs"),
    "no_label": ("the deciding label is null", "they are left out; choose the label with prefer"),
    # Rows that can be used, but should be looked at.
    "duplicate": ("the same row as an earlier one", "palate data curate: exact_duplicates"),
    "near_duplicate": ("nearly the same row as an earlier one", "palate data curate: near_duplicates"),
    "contradiction": ("the same two answers the other way round", "curate: contradictions; find out who labelled them"),
    "inconsistent": (
        "one answer is chosen here and rejected there for one prompt",
        "normal for ranked answers, else look",
    ),
    "many_per_prompt": ("more than ten rows for one prompt", "palate data curate: cap_per_prompt"),
    "formatting_only": ("chosen and rejected differ in formatting only", "they teach formatting; keep only if meant"),
    "length_only": ("one answer is the other cut short or repeated", "they teach length; keep only if meant"),
    "near_equal": ("chosen and rejected are nearly the same", "the signal is weak; curate: overlap"),
    "equal_scores": ("chosen and rejected have the same score", "both are equally good or bad; curate: margin"),
    "reversed_scores": ("the chosen answer has the lower score", "check which way the scores run"),
    "off_topic": ("the rejected answer is about something else", "too easy to teach much; curate: off_topic"),
    "both_refuse": ("both answers decline", "both are equally bad; curate: refusals"),
    "language_differs": ("chosen and rejected are in different languages", "check that this is what was preferred"),
    "secret": ("a key or password", "remove it and have it revoked: palate data curate: personal_data"),
    "personal_data": ("personal data", "palate data curate: personal_data"),
    "toxic_chosen": ("insults or threats in the chosen answer", "palate data curate: toxicity"),
    "toxic_rejected": ("insults or threats in the rejected answer", "fine where safety is taught"),
    "leak": ("in the evaluation data", "palate data curate: decontaminate; figures are worthless with them"),
    "cut": ("longer than cutoff_len", "raise cutoff_len, or let training cut or drop them"),
    # Properties of the set as a whole; the count is of the rows concerned.
    "length_bias": ("the longer answer is chosen too often", "curate: length_ratio, or a length-normalised loss"),
    "position_bias": ("one of the two places wins too often", "the labellers may have looked at the place"),
    "sorted_labels": ("wanted and unwanted answers stand in blocks", "shuffle before splitting by row"),
}


class Collector:
    """Counts problems and keeps the first rows that show each."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[Sample]] = {}

    def add(self, name: str, row_id: str, detail: str = "", count: int = 1) -> None:
        """One more row (or `count` rows) with a problem."""
        self._counts[name] += count
        kept = self._first.setdefault(name, [])
        if len(kept) < self._samples:
            kept.append(Sample(row_id, detail))

    def absorb(self, later: Collector) -> None:
        """Adds what another found in the rows that follow."""
        self._counts.update(later._counts)
        for name, samples in later._first.items():
            kept = self._first.setdefault(name, [])
            kept.extend(samples[: self._samples - len(kept)])

    def problems(self, rows: int) -> tuple[Problem, ...]:
        """What was found, most frequent first."""
        return tuple(
            Problem(name, *self._title(name, count, rows), tuple(self._first[name]), self._remedy(name))
            for name, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        )

    def _title(self, name: str, count: int, rows: int) -> tuple[str, int, float]:
        return TITLES.get(name, (name.replace("_", " "), ""))[0], count, count / rows if rows else 0.0

    def _remedy(self, name: str) -> str:
        return TITLES.get(name, ("", "they are left out; look at how the file was made"))[1]
