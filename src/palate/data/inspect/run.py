"""Inspection of a dataset: one pass measures every row, then all rows are summarised together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from palate.data.formats.source_labels import check_labels_used
from palate.data.held_out import evaluation_texts
from palate.data.inspect.inspection import Inspection, Problem, Problems, ShownRow
from palate.data.inspect.rows import MeasuredRows, Render, TokenCounter, add_token_counts, measure_rows
from palate.data.inspect.summarise import summarise
from palate.data.measures.pairs import conversation_text
from palate.data.measures.safety import hide_private
from palate.data.measures.words import STOP_WORDS
from palate.data.parallel import ordered_chunks
from palate.data.source_reader import SourceReader
from palate.data.sources.spec import find_sources
from palate.records import (
    DatasetRequest,
    DatasetSpec,
    Dropped,
    LabelledCompletion,
    PreferencePair,
    Record,
    SourceReport,
    completions_of,
)

_SAMPLED_PROMPTS = 4000
_SAMPLED_CHARACTERS = 2000
_SHOWN_CHARACTERS = 4000


def inspect_dataset(
    dataset: DatasetSpec | DatasetRequest,
    *,
    count_tokens: TokenCounter | None = None,
    render: Render | None = None,
    cutoff_len: int = 2048,
    against: DatasetSpec | None = None,
    workers: int = 1,
    samples: int = 5,
    rows: int = 0,
) -> Inspection:
    """Measures every row of a dataset and the dataset as a whole.

    Args:
        count_tokens: counts tokens as the model's tokenizer does; without it lengths are in characters only.
        render: a conversation as the text the model would see; without it the turns one after the other.
        cutoff_len: longest row that training would keep, in tokens.
        workers: number of processes; the result does not depend on it.
        rows: keep the texts of this many first rows and of all rows listed as samples, for the page; the data is read
            a second time for this.
    """
    request = DatasetRequest.of(dataset)
    evaluation = None if against is None else evaluation_texts(DatasetRequest(against, request.dataset_dir))
    problems = Problems(samples)
    reports: list[SourceReport] = []

    def read() -> Iterator[SourceReader[Record]]:
        for source in find_sources(request):
            yield SourceReader(source, None, request)

    def records() -> Iterator[Record]:
        for reader in read():
            yield from reader.records(lambda row: problems.add(row.reason, row.id, hide_private(row.detail)))
            reports.append(reader.report())

    measure = partial(measure_rows, samples=samples, evaluation=evaluation)
    parts: list[MeasuredRows] = []
    prompts: dict[int, str] = {}
    for chunk, part in ordered_chunks(measure, records(), workers):
        if count_tokens is not None:
            add_token_counts(part.frame, chunk, count_tokens, render or conversation_text)
        problems.add_all(part.problems)
        prompts = _sampled(prompts, chunk, part.frame)
        parts.append(part)
    check_labels_used(reports, request.labels)
    parts = parts or [measure([])]  # no row can be used: the columns without rows
    measured = MeasuredRows(
        pd.concat([part.frame for part in parts], ignore_index=True),
        np.concatenate([part.signatures for part in parts]),
        problems,
    )
    found = summarise(measured, reports, list(prompts.values()), cutoff_len)
    return replace(found, shown=_shown_rows(read(), found.problems, rows)) if rows else found


def _sampled(prompts: Mapping[int, str], records: Sequence[Record], frame: pd.DataFrame) -> dict[int, str]:
    """The prompts with the lowest hashes, by hash: a sample that does not depend on the order of the rows."""
    found = dict(prompts)
    for record, prompt, language in zip(records, frame["prompt"], frame["language"], strict=True):
        if language in STOP_WORDS:
            found.setdefault(prompt, record.prompt[-1].content[:_SAMPLED_CHARACTERS] if record.prompt else "")
    return dict(sorted(found.items())[:_SAMPLED_PROMPTS])


def _shown_rows(
    readers: Iterable[SourceReader[Record]], problems: Sequence[Problem], first: int
) -> tuple[ShownRow, ...]:
    """The first rows and all samples of problems, in the order of the data."""
    named: dict[str, list[str]] = {}
    for problem in problems:
        for sample in problem.samples:
            named.setdefault(sample.id, []).append(problem.name)
    records = (item for reader in readers for item in reader if not isinstance(item, Dropped))
    return tuple(
        _shown(record, named.get(record.id, ()))
        for number, record in enumerate(records)
        if number < first or record.id in named
    )


def _shown(record: Record, problems: Sequence[str]) -> ShownRow:
    answers = completions_of(record)
    if isinstance(record, PreferencePair):
        labels = ["chosen", "rejected"]
    elif isinstance(record, LabelledCompletion):
        labels = ["desirable" if record.desirable else "undesirable"]
    else:
        labels = ["answer"] if len(answers) == 1 else [f"answer {number}" for number in range(1, len(answers) + 1)]
    return ShownRow(
        record.id,
        tuple((message.role, _shortened(message.text)) for message in record.prompt),
        tuple((label, _shortened(conversation_text(answer))) for label, answer in zip(labels, answers, strict=True)),
        tuple(problems),
    )


def _shortened(text: str) -> str:
    text = hide_private(text)
    left_out = len(text) - _SHOWN_CHARACTERS
    return text if left_out <= 0 else f"{text[:_SHOWN_CHARACTERS]} … ({left_out:,} more characters)"
