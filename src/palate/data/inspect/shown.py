"""The texts of rows for a page: the first ones, and those that show a problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from palate.data.inspect.inspection import Problem, ShownRow
from palate.data.load import SourceReader
from palate.data.measures.pairs import completions, said
from palate.data.measures.privacy import hide_private
from palate.records import Dropped, LabelledCompletion, PreferencePair, Record

_LONGEST = 4000
"""Characters of a turn or an answer that are kept."""


def shown_rows(
    readers: Iterable[SourceReader[Record]], problems: Sequence[Problem], first: int
) -> tuple[ShownRow, ...]:
    """The first rows and every sample of a problem, in the order of the data."""
    named: dict[str, list[str]] = {}
    for problem in problems:
        for sample in problem.samples:
            named.setdefault(sample.id, []).append(problem.name)
    found: list[ShownRow] = []
    seen = 0
    for reader in readers:
        for item in reader:
            if isinstance(item, Dropped):
                continue
            seen += 1
            if seen <= first or item.id in named:
                found.append(_shown(item, named.get(item.id, ())))
    return tuple(found)


def _shown(record: Record, problems: Sequence[str]) -> ShownRow:
    answers = completions(record)
    if isinstance(record, PreferencePair):
        labels = ["chosen", "rejected"]
    elif isinstance(record, LabelledCompletion):
        labels = ["desirable" if record.desirable else "undesirable"]
    else:
        labels = ["answer"] if len(answers) == 1 else [f"answer {place}" for place in range(1, len(answers) + 1)]
    return ShownRow(
        record.id,
        tuple((message.role, _cut(said((message,)))) for message in record.prompt),
        tuple((label, _cut(said(answer))) for label, answer in zip(labels, answers, strict=True)),
        tuple(problems),
    )


def _cut(text: str) -> str:
    text = hide_private(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text) - _LONGEST:,} more characters)"
