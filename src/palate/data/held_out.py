"""Evaluation data, to find its texts and prompts in training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from palate.data.measures.leaks import EvaluationTexts
from palate.data.prompts import load_prompts
from palate.data.sources.spec import find_sources
from palate.data.turns.text_turns import turns_of_text
from palate.errors import PalateError
from palate.records import DatasetRequest, DatasetSpec, Messages, prompt_key

IN_EVALUATION = "in_evaluation"
"""Drop reason of rows that have or resemble a text of evaluation data."""
_SHORTEST = 20


class HeldOut:
    """Evaluation data that must not be trained on: its texts, and its prompts as a whole, however short they are.

    Raises:
        DataError: a file cannot be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        files = list({path.resolve(): path for path in files}.values())  # several evaluations may use one file
        self._texts = evaluation_texts(*([str(path)] for path in files))
        self._prompts: set[str] = set()
        for path in files:
            with suppress(PalateError):  # benchmarks have rows of other shapes; their texts are known all the same
                self._prompts |= {_own_key(record.prompt) for record in load_prompts(str(path))[0]}
        self._prompts.discard("")

    def __len__(self) -> int:
        return len(self._texts) + len(self._prompts)

    def has(self, prompt: Messages, *answers: Messages) -> bool:
        """Whether the prompt is one of the evaluation's, or a turn shares 13 words with a text or nearly equals it."""
        if not len(self):
            return False
        turns = (turn for messages in (prompt, *answers) for turn in messages if turn.role != "system")
        return _own_key(prompt) in self._prompts or any(self._texts.find(turn.text) is not None for turn in turns)


def _own_key(prompt: Messages) -> str:
    """Without system turns, which many rows share."""
    return prompt_key(tuple(turn for turn in prompt if turn.role != "system"))


def evaluation_texts(*datasets: DatasetSpec | DatasetRequest) -> EvaluationTexts:
    """Every text of 20 characters or more in datasets of rows of any shape, which may have files in common."""
    rows = (row for dataset in datasets for source in find_sources(dataset) for row in source.rows())
    return EvaluationTexts((row_id, text) for row_id, row in rows for text in _texts_in(row))


def _texts_in(value: Any) -> Iterator[str]:
    turns = turns_of_text(value)
    if turns is not None:
        yield from _texts_in(turns)
    elif isinstance(value, str):
        if len(value) >= _SHORTEST:
            yield value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be encoded
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, bytes):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(inner)
