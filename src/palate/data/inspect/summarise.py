"""From the table of row measures to the inspection of a dataset; rows that repeat or contradict earlier ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from palate.data.inspect.coverage import MIN_JUDGED, gaps, prompt_clusters
from palate.data.inspect.inspection import Inspection, Problems, Spread, TokenLengths
from palate.data.inspect.rows import LABELLED, PAIRS, MeasuredRows
from palate.data.measures.similarity import near_duplicates
from palate.records import SourceReport
from palate.stats import Interval, rate_interval, wilson

Indices = npt.NDArray[np.int64]
_MANY: Final = 10
"""Rows of one prompt above which the prompt is reported."""


def summarise(
    rows: MeasuredRows, reports: Sequence[SourceReport], prompts: Sequence[str], cutoff_len: int
) -> Inspection:
    """The inspection of a dataset, without the texts of rows; adds the problems of the set as a whole.

    Args:
        rows: measures of all rows, with token counts if a tokenizer was given.
        prompts: a sample of prompt texts in languages whose stop words are known.
    """
    frame, problems = rows.frame, rows.problems
    pairs = frame[frame["kind"] == PAIRS]
    labels = frame.loc[frame["kind"] == LABELLED, "other"]
    _add_repeats(rows)
    longer = _longer_is_chosen(pairs, problems)
    first = _first_won(reports, problems)
    _add_sorted_labels(labels, problems)
    tokens = _token_lengths(frame, cutoff_len, problems)
    improvements = _counts(pairs["improvement"])
    clusters = prompt_clusters(prompts)
    rows_read = sum(report.rows_read for report in reports)
    return Inspection(
        sources=tuple(reports),
        rows=rows_read,
        records=len(frame),
        kinds=_counts(frame["kind"]),
        prompts=frame["prompt"].nunique(),
        languages=_counts(frame["language"]),
        turns=dict(sorted(_counts(frame["turns"]).items())),
        systems=dict(list(_counts(frame["system"]).items())[:5]),
        different_systems=frame.loc[frame["system"].notna(), "system_hash"].nunique(),
        characters=_characters(frame),
        longer_is_chosen=longer,
        first_won=first,
        labels=_counts(labels.map({1: "desirable", 0: "undesirable"})),
        margins=Spread.of(pairs["margin"].dropna()),
        overlap=Spread.of(pairs["overlap"].dropna()),
        tokens=tokens,
        improvements=improvements if sum(improvements.values()) >= MIN_JUDGED else {},
        clusters=clusters,
        gaps=tuple(gaps(improvements, clusters)),
        problems=problems.listed(rows_read),
    )


def _counts(column: pd.Series) -> dict[Any, int]:
    """Rows by value, most frequent first, equal counts in the order of the rows; none for missing values."""
    counts = Counter(column.dropna().tolist())
    return dict(counts.most_common())


def _characters(frame: pd.DataFrame) -> dict[str, Spread]:
    is_pair = frame["kind"] == PAIRS
    pairs, others = frame.loc[is_pair, "answer_lengths"], frame.loc[~is_pair, "answer_lengths"]
    columns = {
        "prompt": frame["prompt_length"],
        "chosen": pairs.list[0] if len(pairs) else (),
        "rejected": pairs.list[1] if len(pairs) else (),
        "completion": others.list.flatten(),
    }
    return {name: spread for name, column in columns.items() if (spread := Spread.of(column)) is not None}


def _token_lengths(frame: pd.DataFrame, cutoff_len: int, problems: Problems) -> TokenLengths | None:
    if "prompt_tokens" not in frame:
        return None
    prompt, answers = frame["prompt_tokens"], frame["answer_tokens"].list.flatten()
    longest = answers.groupby(level=0).max().reindex(frame.index, fill_value=0).astype("int64")
    total = prompt + longest
    over = total > cutoff_len
    for row_id in frame.loc[over, "id"]:
        problems.add("cut", row_id, f"longer than {cutoff_len} tokens")
    return TokenLengths(
        cutoff_len=cutoff_len,
        prompt=Spread.of(prompt),
        completion=Spread.of(answers),
        row=Spread.of(total),
        over=int(over.sum()),
        hopeless=int((longest > cutoff_len).sum()),
        total=int(prompt.sum() + answers.sum()),
    )


def _add_repeats(rows: MeasuredRows) -> None:
    """Rows that repeat or contradict earlier ones; duplicates and contradictions are not near-duplicates as well."""
    ids = rows.frame["id"]
    duplicate, contradiction = duplicates(rows.frame), contradictions(rows.frame)
    inconsistent = np.where(contradiction < 0, inconsistencies(rows.frame), -1)
    near = np.array(near_duplicates(rows.signatures))
    near = np.where((near < np.arange(len(ids))) & (duplicate < 0) & (contradiction < 0), near, -1)
    for name, earlier, how in (
        ("duplicate", duplicate, "as"),
        ("contradiction", contradiction, "against"),
        ("inconsistent", inconsistent, "against"),
        ("near_duplicate", near, "like"),
    ):
        for row in np.flatnonzero(earlier >= 0):
            rows.problems.add(name, ids[row], f"{how} {ids[earlier[row]]}")
    for first, count in crowded_prompts(rows.frame, _MANY):
        rows.problems.add("many_per_prompt", ids[first], f"{count} rows", count)


def _longer_is_chosen(pairs: pd.DataFrame, problems: Problems) -> Interval | None:
    """Share of pairs whose longer answer is chosen; a problem if it is above 60 % beyond chance."""
    if not len(pairs):
        return None
    chosen, rejected = pairs["answer_lengths"].list[0], pairs["answer_lengths"].list[1]
    differ = chosen != rejected
    if not differ.any():
        return None
    won = (chosen > rejected)[differ].to_numpy(bool)
    found = rate_interval(won, clusters=pairs.loc[differ, "prompt"].tolist())
    if found.low > 0.6:
        detail = f"{found.estimate:.0%} ({found.low:.0%} … {found.high:.0%})"
        problems.add("length_bias", "all", detail, int(won.sum()))
    return found


def _first_won(reports: Sequence[SourceReport], problems: Problems) -> Interval | None:
    """Share of pairs in which the answer shown first won; a problem if it is beyond 45 … 55 % and beyond chance."""
    first, second = (sum(report.notices.get(name, 0) for report in reports) for name in ("first_won", "second_won"))
    if not first + second:
        return None
    found = wilson(first, first + second)
    if not found.low <= 0.5 <= found.high and abs(found.estimate - 0.5) > 0.05:
        detail = f"the first answer won {found.estimate:.0%} ({found.low:.0%} … {found.high:.0%})"
        problems.add("position_bias", "all", detail, max(first, second))
    return found


def _add_sorted_labels(labels: pd.Series, problems: Problems) -> None:
    """Wald–Wolfowitz runs test: a problem if there are far fewer runs of equal labels than expected by chance."""
    n, yes = len(labels), int(labels.sum())
    no = n - yes
    if min(yes, no) < 10:
        return
    runs = 1 + int((labels.diff().iloc[1:] != 0).sum())
    expected = 1 + 2 * yes * no / n
    deviation = ((expected - 1) * (expected - 2) / (n - 1)) ** 0.5
    if (runs - expected) / deviation < -4:
        problems.add("sorted_labels", "all", f"{runs} runs where {expected:.0f} are expected by chance", n)


def duplicates(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier row with the same prompt, answers and label; -1 if there is none."""
    same = ["kind", "prompt", "answer", "other"]
    return _first_earlier(frame, same, same)


def contradictions(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier pair that prefers the same two answers the other way round, or the first earlier
    completion that is the same with the other label; -1 if there is none."""
    found = np.full(len(frame), -1)
    pairs = (frame["kind"] == PAIRS) & (frame["answer"] != frame["other"])
    found[pairs] = _first_earlier(frame[pairs], ["prompt", "answer", "other"], ["prompt", "other", "answer"])
    labelled = frame["kind"] == LABELLED
    labels = frame[labelled]
    labels = labels.assign(opposite=1 - labels["other"])
    found[labelled] = _first_earlier(labels, ["prompt", "answer", "other"], ["prompt", "answer", "opposite"])
    return found


def inconsistencies(frame: pd.DataFrame) -> Indices:
    """int64 [rows]: the first earlier pair that rejects what this one chooses, or chooses what it rejects; or -1."""
    found = np.full(len(frame), -1)
    is_pair = frame["kind"] == PAIRS
    pairs = frame[is_pair]
    rejected = _first_earlier(pairs, ["prompt", "other"], ["prompt", "answer"])
    chosen = _first_earlier(pairs, ["prompt", "answer"], ["prompt", "other"])
    earlier, later = np.sort([rejected, chosen], axis=0)
    found[is_pair] = np.where(earlier < 0, later, earlier)
    return found


def crowded_prompts(frame: pd.DataFrame, more_than: int) -> list[tuple[int, int]]:
    """(first row, number of rows) of every prompt with more rows than this, in the order of the rows."""
    rows = pd.Series(np.arange(len(frame))).groupby(frame["prompt"].to_numpy(), sort=False)
    found = rows.agg(["min", "size"])
    return [(int(first), int(size)) for first, size in found[found["size"] > more_than].to_numpy()]


def _first_earlier(frame: pd.DataFrame, own: Sequence[str], wanted: Sequence[str]) -> Indices:
    """Per row the index of the first earlier row whose columns `own` equal this row's columns `wanted`; or -1."""
    index = frame.index.to_numpy()
    first = pd.Series(index).groupby([frame[name].to_numpy() for name in own], sort=False).min().reset_index()
    first.columns = [*wanted, "first"]
    found = frame[list(wanted)].merge(first, how="left", on=list(wanted))["first"].fillna(-1).to_numpy(np.int64)
    return np.where(found < index, found, -1)
