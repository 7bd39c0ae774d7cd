"""A conversation of a person with a model, of which the last exchange can be taken back."""

from __future__ import annotations

from dataclasses import dataclass, field

from palate.errors import UsageError
from palate.feedback.page.save import PreferenceRow
from palate.models.generation.decoding import Decoding
from palate.records import Message, Messages


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with the answer that the conversation goes on from.

    Attributes:
        question, answer: the texts.
        pair: what the person's choice between two answers says; None without a choice.
        counted: under which name the choice is counted; "" without a choice.
    """

    question: str
    answer: str
    pair: PreferenceRow | None = None
    counted: str = ""


@dataclass(slots=True)
class Dialogue:
    """The exchanges so far, and what the next answer depends on.

    Attributes:
        decoding: of the next answer; its seed is the base of all seeds.
        system: the system prompt, None without one.
        exchanges: those that the model is shown.
        asked: number of questions so far, also of those that were taken back: it tells the seeds of answers apart.
    """

    decoding: Decoding
    system: str | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    asked: int = 0

    def ask(self, question: str) -> Messages:
        """Count a question, and return the conversation that ends with it.

        Raises:
            UsageError: the question or the system prompt has bytes that are no text in UTF-8.
        """
        for name, text in (("question", question), ("system prompt", self.system or "")):
            try:
                text.encode()
            except UnicodeEncodeError as error:  # Python reads such bytes as halves of surrogate pairs
                raise UsageError(
                    f"the {name} is no text in UTF-8, at character {error.start + 1}; write it again"
                ) from None
        self.asked += 1
        turns = [Message("system", self.system)] if self.system else []
        for exchange in self.exchanges:
            turns += [Message("user", exchange.question), Message("assistant", exchange.answer)]
        return (*turns, Message("user", question))
