"""Prompts of a win rate that stand in the training data of the runs that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from palate.data.measures.similarity import ngram_hashes
from palate.data.measures.words import tokens
from palate.errors import PalateError
from palate.evaluation.accuracy.held_out import trained_prompts
from palate.evaluation.subject import find_run
from palate.evaluation.winrate.sides import Side
from palate.records import Messages, Record, prompt_key

RUN = 13
"""Words in a sequence, as in the check of the GPT-3 paper (2005.14165)."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """Prompts found in the training data of one side.

    Attributes:
        side: name of the run.
        trained: number of prompts in its training data.
        found: prompt id → `same` (the same prompt) or `run` (13 consecutive words in common).
        reason: why the data was not checked; empty if it was.
    """

    side: str
    trained: int = 0
    found: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


class PromptIndex:
    """The prompts of an evaluation, to find them in training prompts; without system turns, which many rows share."""

    def __init__(self, prompts: Sequence[Record]) -> None:
        self._same: dict[str, list[str]] = {}
        self._runs: dict[bytes, list[str]] = {}
        for record in prompts:
            self._same.setdefault(prompt_key(_own_turns(record.prompt)), []).append(record.id)
            for run in _runs(record.prompt):
                self._runs.setdefault(run, []).append(record.id)

    def find(self, trained: Iterable[Messages]) -> dict[str, str]:
        """Prompt id → how it is found in the training prompts."""
        found: dict[str, str] = {}
        for prompt in trained:
            for where in self._same.get(prompt_key(_own_turns(prompt)), ()):
                found[where] = "same"
            for run in _runs(prompt):
                for where in self._runs.get(run, ()):
                    found.setdefault(where, "run")
        return found


def leaks_of(side: Side, index: PromptIndex) -> Leaks:
    """Look for the prompts in the training data of a side; says why if that is not possible."""
    try:
        run = find_run(side.folder) if side.folder is not None else None
        if run is None:
            return Leaks(side.name, reason="no run of palate, so its training data is not known")
        trained = trained_prompts(run)
    except PalateError as error:  # the data is elsewhere by now, for example; the result says so
        return Leaks(side.name, reason=str(error))
    return Leaks(side.name, len(trained), index.find(trained))


def _own_turns(prompt: Messages) -> Messages:
    return tuple(message for message in prompt if message.role != "system")


def _runs(prompt: Messages) -> Iterable[bytes]:
    """Hashes of all sequences of `RUN` words; none of a shorter prompt."""
    text = "\n".join(message.text for message in _own_turns(prompt))
    return ngram_hashes(text, RUN) if len(tokens(text)) >= RUN else ()
