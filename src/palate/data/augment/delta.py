"""Pairs of two models: the stronger one's answer over the weaker one's, without a judge (2507.06187)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from palate.data.augment.answers import AnswerFile, KeptAnswer, ModelSource
from palate.data.augment.made import MadeByModels, Outcome, ask, checked_answer, outcome, pair_from_answers, written
from palate.data.formats.rows import same_text
from palate.data.turns.cells import RowError
from palate.records import PreferencePair, Record


@dataclass(frozen=True, slots=True)
class StrongOverWeak:
    """The stronger model's answer is chosen, the weaker one's rejected.

    Attributes:
        strong, weak: the models; that `strong` is stronger is the caller's knowledge.
    """

    how: ClassVar[str] = "delta"
    strong: ModelSource
    weak: ModelSource

    def settings(self) -> dict[str, Any]:
        return {"strong": self.strong.name, "weak": self.weak.name, "decoding": dict(self.strong.decoding)}

    def prepare(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> None:
        """All answers of the stronger model, after which its memory is free for the weaker one."""
        ask(answers, self.strong, prompts, seed)
        answers.release(self.strong)

    def rows(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> list[Outcome]:
        better, worse = (ask(answers, model, prompts, seed) for model in (self.strong, self.weak))
        return [
            outcome(record, partial(self._pair, record, high, low, seed))
            for record, high, low in zip(prompts, better, worse, strict=True)
        ]

    def _pair(self, record: Record, high: KeptAnswer, low: KeptAnswer, seed: int) -> PreferencePair:
        chosen, rejected = checked_answer(high, "empty_strong"), checked_answer(low, "empty_weak")
        if same_text(chosen, rejected):
            raise RowError("equal", "both models gave the same answer")
        made = MadeByModels(
            how=self.how,
            source=record.id,
            model=f"{self.strong.name} over {self.weak.name}",
            seed=seed,
            note="no judge: the stronger model's answer is chosen",
            written_by=(written("chosen", self.strong, high), written("rejected", self.weak, low)),
            decoding=self.strong.decoding,
        )
        return pair_from_answers(record, made, chosen, rejected)
