"""A conversation of a person with a model, of which the last exchange can be taken back."""

from __future__ import annotations

from dataclasses import dataclass

from palate.feedback.page.save import PreferenceRow
from palate.models.generation.decoding import Decoding
from palate.records import Message, Messages


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with the answer that the conversation goes on from.

    Attributes:
        question, answer: the texts.
        saved: the pair that was saved of two answers to it.
    """

    question: str
    answer: str
    saved: PreferenceRow | None = None


@dataclass(slots=True)
class Dialogue:
    """The exchanges so far, and what the next answer depends on.

    Attributes:
        decoding: of the next answer; its seed is the base of all seeds.
        system: the system prompt, None without one.
        exchanges: those that the model is shown.
        asked: number of questions so far, with those that were taken back: it tells the seeds of answers apart.
    """

    decoding: Decoding
    system: str | None
    exchanges: list[Exchange]
    asked: int = 0

    def prompt(self, question: str) -> Messages:
        """The conversation with a new question at its end."""
        self.asked += 1
        turns = [Message("system", self.system)] if self.system else []
        for exchange in self.exchanges:
            turns += [Message("user", exchange.question), Message("assistant", exchange.answer)]
        return (*turns, Message("user", question))
