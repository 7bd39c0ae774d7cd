"""Must-pass prompts: each names patterns that the answer must, or must not, have; one miss stops a release."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate.errors import DataError
from palate.evaluation.logs.items import ItemValues, content_hash
from palate.feedback.candidates import Answerer
from palate.models.generation.decoding import Decoding
from palate.records import Record

METRIC = "passed"
COLUMNS = ("must", "must_not")


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to a must-pass prompt.

    Attributes:
        id: of the prompt's row.
        answer: what the model wrote.
        misses: what was wrong, one line each; none: it passed.
    """

    id: str
    answer: str
    misses: tuple[str, ...]


def must_pass(
    prompts: Sequence[Record], answerer: Answerer, *, max_new_tokens: int
) -> tuple[list[Checked], ItemValues]:
    """Greedy answers to the prompts, checked; and 1 or 0 for each, as a gate reads them.

    Args:
        prompts: each has in `extra` the column `must` or `must_not`, a regular expression or a list of them, which are
            searched in the answer without regard to case.

    Raises:
        DataError: a row has no pattern, or one that cannot be read.
    """
    patterns = [{column: _patterns(record, column) for column in COLUMNS} for record in prompts]
    for record, given in zip(prompts, patterns):
        if not any(given.values()):
            raise DataError(f"{record.id}: has neither must nor must_not; a must-pass prompt says what to look for")
    asked = [record.prompt for record in prompts]
    answers = answerer.answers(
        asked, Decoding(max_new_tokens, 0.0, 1.0, 0), [0] * len(asked), tools=[record.tools for record in prompts]
    )
    found = [
        Checked(record.id, answer.text, tuple(_misses(answer.text, given)))
        for record, answer, given in zip(prompts, answers, patterns, strict=True)
    ]
    hashes = {
        one.id: content_hash([str(one.prompt), *(one.extra.get(column) for column in COLUMNS)]) for one in prompts
    }
    values = {one.id: float(not one.misses) for one in found}
    return found, ItemValues(answerer.name, {METRIC: values}, hashes)


def _patterns(record: Record, column: str) -> list[re.Pattern[str]]:
    value: Any = record.extra.get(column) or []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{record.id}: {column} must be a text or a list of texts, not {value!r}")
    try:
        return [re.compile(text, re.IGNORECASE) for text in texts]
    except re.error as error:
        raise DataError(f"{record.id}: {column}: {error} in a regular expression; escape it with \\") from error


def _misses(answer: str, patterns: Mapping[str, Sequence[re.Pattern[str]]]) -> list[str]:
    missing = [f"has no {pattern.pattern}" for pattern in patterns["must"] if not pattern.search(answer)]
    return missing + [f"has {pattern.pattern}" for pattern in patterns["must_not"] if pattern.search(answer)]
