"""The texts of evaluation data, to find them in training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palate.data.measures.leaks import EvaluationTexts
from palate.data.sources.spec import find_sources
from palate.data.turns.text_turns import turns_of_text
from palate.records import DatasetRequest, DatasetSpec

_SHORTEST = 20


def evaluation_texts(dataset: DatasetSpec | DatasetRequest) -> EvaluationTexts:
    """Every text of 20 characters or more in a dataset of rows of any shape."""

    def texts() -> Iterator[tuple[str, str]]:
        for source in find_sources(dataset):
            for row_id, row in source.rows():
                yield from ((row_id, text) for text in _texts_in(row))

    return EvaluationTexts(texts())


def _texts_in(value: Any) -> Iterator[str]:
    turns = turns_of_text(value)
    if turns is not None:
        yield from _texts_in(turns)
    elif isinstance(value, str):
        if len(value) >= _SHORTEST:
            yield value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be encoded
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for inner in value:
            yield from _texts_in(inner)
