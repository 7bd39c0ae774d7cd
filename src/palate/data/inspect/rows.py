"""What is measured of each row of a dataset, as one table: built chunk by chunk, in any process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from palate.data.formats.kinds import KIND_NAMES
from palate.data.inspect.inspection import Problems
from palate.data.measures.leaks import EvaluationTexts
from palate.data.measures.pairs import (
    JUDGED,
    AnswerMeasures,
    Improvement,
    Measures,
    PairMeasures,
    conversation_text,
    measure,
    text_hash,
)
from palate.data.measures.safety import hide_private
from palate.data.measures.similarity import PLACES
from palate.data.turns.cells import excerpt
from palate.records import LabelledCompletion, Messages, PreferencePair, Record, completions_of

Render: TypeAlias = Callable[[Messages], str]
"""A conversation as the text that the model sees."""
TokenCounter: TypeAlias = Callable[[Sequence[str]], list[int]]
"""Counts the tokens of texts."""

PAIRS: Final = KIND_NAMES[PreferencePair]
LABELLED: Final = KIND_NAMES[LabelledCompletion]


class RowMeasures(NamedTuple):
    """One row of the table: numbers and hashes, no text but the beginning of the system text.

    Attributes:
        id: the record's id.
        kind: `pairs`, `demonstrations` …
        language: ISO 639-1 code of the prompt's language, `und` if unknown.
        turns: number of prompt messages.
        system: beginning of the system text, private data masked; None without a system text.
        system_hash: hash of the whole system text.
        prompt_length: characters of the prompt.
        answer_lengths: characters of each answer (of a pair: chosen, rejected).
        prompt: hash of the prompt.
        answer: hash of the chosen or only answer; of several answers, of all together.
        other: hash of the rejected answer; of a labelled completion its label (1 or 0); else 0.
        overlap: word overlap of the answers of a pair.
        improvement: what seems to make the chosen answer better; None where that is not judged.
        margin: stated margin of a pair.
    """

    id: str
    kind: str
    language: str
    turns: int
    system: str | None
    system_hash: int
    prompt_length: int
    answer_lengths: tuple[int, ...]
    prompt: int
    answer: int
    other: int
    overlap: float | None = None
    improvement: Improvement | None = None
    margin: float | None = None


LENGTHS: Final = pd.ArrowDtype(pa.list_(pa.int64()))
_DTYPES: Final = {
    "system": "str",
    "answer_lengths": LENGTHS,
    "overlap": "float",
    "improvement": "str",
    "margin": "float",
}
"""Types of columns that may have missing values or lists; pandas finds those of the other columns."""


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """Measures of some rows.

    Attributes:
        frame: a column for each field of `RowMeasures`.
        signatures: uint8 [rows, 128], MinHash of each row.
        problems: what was found in single rows.
    """

    frame: pd.DataFrame
    signatures: npt.NDArray[np.uint8]
    problems: Problems


def measure_rows(records: Sequence[Record], *, samples: int, evaluation: EvaluationTexts | None = None) -> MeasuredRows:
    """Measures records one by one.

    Args:
        evaluation: texts that must not be trained on.
    """
    rows, signatures, problems = [], [], Problems(samples)
    for record in records:
        measures = measure(record)
        rows.append(_row(record, measures))
        signatures.append(measures.signature)
        for name, detail in _problems(record, measures):
            problems.add(name, record.id, detail)
        if evaluation is not None and (leak := evaluation.find(conversation_text(record.prompt[-1:]))):
            problems.add("leak", record.id, f"{leak.how} as {leak.where}")
    frame = pd.DataFrame(rows, columns=RowMeasures._fields).astype(_DTYPES)
    return MeasuredRows(frame, np.array(signatures, dtype=np.uint8).reshape(-1, PLACES), problems)


def add_token_counts(
    frame: pd.DataFrame, records: Sequence[Record], count: TokenCounter, render: Render = conversation_text
) -> None:
    """Adds the columns `prompt_tokens` and `answer_tokens` (what each answer adds to its prompt).

    The prompt is counted alone, then with each answer: templates add tokens that neither has on its own.
    """
    texts = [render(record.prompt + answer) for record in records for answer in ((), *completions_of(record))]
    counts = iter(count(texts))
    prompts: list[int] = []
    answers: list[list[int]] = []
    for record in records:
        prompts.append(next(counts))
        answers.append([max(0, next(counts) - prompts[-1]) for _ in completions_of(record)])
    frame["prompt_tokens"] = prompts
    frame["answer_tokens"] = pd.Series(answers, dtype=LENGTHS)


def _row(record: Record, measures: Measures) -> RowMeasures:
    system = record.prompt[0].content if record.prompt and record.prompt[0].role == "system" else ""
    hashes = measures.answer_hashes
    row = RowMeasures(
        id=record.id,
        kind=KIND_NAMES[type(record)],
        language=measures.language,
        turns=len(record.prompt),
        system=_quoted(system, 80, measures) if system else None,
        system_hash=_number(text_hash(system)),
        prompt_length=sum(len(message.text) for message in record.prompt),
        answer_lengths=measures.lengths,
        prompt=_number(measures.prompt_hash),
        answer=_number(hashes[0] if len(hashes) == 1 else text_hash(b"".join(hashes).hex())),
        other=0,
    )
    if isinstance(record, LabelledCompletion):
        return row._replace(other=int(record.desirable))
    if isinstance(record, PreferencePair) and measures.pair is not None:
        return row._replace(
            answer=_number(hashes[0]),
            other=_number(hashes[1]),
            overlap=measures.pair.overlap,
            improvement=measures.pair.improvement if measures.language in JUDGED else None,
            margin=record.margin,
        )
    return row


def _number(found: bytes) -> int:
    """A hash of 8 bytes as int64: of mixed signed and unsigned columns pandas would make floats."""
    return int.from_bytes(found, signed=True)


def _problems(record: Record, measures: Measures) -> Iterator[tuple[str, str]]:
    """(name, detail) of what is wrong with one row."""
    for name, found in (
        ("secret", [finding for finding in measures.private if finding.kind == "key"]),
        ("personal_data", [finding for finding in measures.private if finding.kind != "key"]),
    ):
        if found:
            yield name, ", ".join(f"{finding.kind} {finding.masked}" for finding in found[:3])
    toxic = [answer.toxic for answer in measures.answers]
    if measures.pair is None:
        toxic = [[word for words in toxic for word in words]]
    for name, words in zip(("toxic_chosen", "toxic_rejected"), toxic):
        if words:
            yield name, ", ".join(words[:3])
    if isinstance(record, PreferencePair) and measures.pair is not None:
        chosen, rejected = (_quoted(answer.text, 40, measures) for answer in measures.answers)
        for name in _pair_problems(record, measures.pair, measures.answers):
            yield name, f"{chosen!r} over {rejected!r}"


def _pair_problems(record: PreferencePair, pair: PairMeasures, answers: Sequence[AnswerMeasures]) -> list[str]:
    languages = {answer.language for answer in answers}
    problems = {
        "formatting_only": pair.formatting_only,
        "length_only": pair.length_only,
        "off_topic": pair.off_topic,
        "near_equal": pair.overlap >= 0.9 and not (pair.formatting_only or pair.length_only),
        "both_refuse": all(answer.refuses for answer in answers),
        "language_differs": "und" not in languages and len(languages) > 1,
        "equal_scores": record.margin == 0,
        "reversed_scores": record.margin is not None and record.margin < 0,
    }
    return [name for name, found in problems.items() if found]


def _quoted(text: str, width: int, measures: Measures) -> str:
    """How a text begins, with private data masked."""
    return excerpt(hide_private(text) if measures.private else text, width)
