"""How a question in the terminal is answered: by one model, or by two of which a person prefers one."""

from __future__ import annotations

import os
import random
import sys
import termios
import tty
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from palate.cli.chat.pair import show_pair
from palate.cli.columns import text_width
from palate.cli.console import print_note, print_result
from palate.errors import EngineError, UsageError
from palate.evaluation.answers.table import printable
from palate.feedback.page.chat import AnswerStream, Chat, ChatEvent, Failed, Side
from palate.feedback.page.save import PreferenceRow, preference_row
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.records import Answer, Message, Messages


@dataclass(frozen=True, slots=True)
class ChatTurn:
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
    exchanges: list[ChatTurn] = field(default_factory=list)
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


def write(text: str) -> None:
    """Text of a model on stdout, at once; on a terminal without control characters."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def read_keys() -> str:
    """The keys that the person has pressed, at least one, also before this call; Ctrl-C is an interrupt."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)  # keys that were pressed early are kept
        keys = os.read(terminal, 64)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    if not keys:  # the terminal is gone
        raise KeyboardInterrupt
    return keys.decode("utf-8", "replace")


class Single:
    """Answers of one model. An answer that Ctrl-C stops stays in the conversation as far as it goes."""

    summary = ""  # nothing to say at the end

    def __init__(self, model: AnswerStream) -> None:
        self._model = model

    def answer(self, dialogue: Dialogue, question: str) -> ChatTurn | None:
        """Stream the answer to a question; None if it has no text.

        Raises:
            PalateError: the model cannot answer.
        """
        pieces: list[str] = []

        def on_text(text: str) -> None:
            pieces.append(text)
            write(text)

        prompt, decoding = dialogue.ask(question), dialogue.decoding
        answer: Answer | None = None
        try:
            seed = sampling_seed(decoding.seed, dialogue.asked)
            answer = self._model.stream(prompt, decoding, seed, on_text)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():  # of a pipe there is no next question
                raise
        write("\n")
        if answer is None:
            print_note("stopped")
        elif answer.finish_reason == "length":
            print_note(f"the answer is cut at {decoding.max_new_tokens} tokens (--max-new-tokens)")
        text = answer.text if answer is not None else "".join(pieces)
        return ChatTurn(question, text) if text.strip() else None

    def take_back(self, exchange: ChatTurn) -> None:
        """Nothing: no choice is counted."""


class Compared:
    """Answers of two models, of which the person chooses the one that continues the conversation.

    Args:
        first, second: the models; may be one object twice.
        order: draws which answer is A, and the models are not named; without it the first model's is A.
        keys: reads keys of the person.
    """

    def __init__(
        self,
        first: AnswerStream,
        second: AnswerStream,
        order: random.Random | None,
        keys: Callable[[], str] = read_keys,
    ) -> None:
        self._models = first, second
        self._order, self._keys = order, keys
        self._tally: Counter[str] = Counter()

    @property
    def summary(self) -> str:
        """How often each model was preferred; "" before the first question."""
        if not self._tally:
            return ""
        won = (f"{model.name} {self._tally[f'model {side}']}" for side, model in enumerate(self._models))
        return f"preferred: {', '.join(won)}; ties {self._tally['t']}, none {self._tally['n']}"

    def answer(self, dialogue: Dialogue, question: str) -> ChatTurn | None:
        """Show both answers to a question and ask which is better; None if the conversation goes on from neither.

        Raises:
            PalateError: there are no two answers.
        """
        chat = Chat(*self._models, dialogue.decoding)
        sides: tuple[Side, Side] = (1, 0) if self._order is not None and self._order.random() < 0.5 else (0, 1)
        names = ["A", "B"]
        if self._order is None:
            names = [f"{letter} ({self._models[side].name})" for letter, side in zip(names, sides, strict=True)]
        prompt = dialogue.ask(question)
        events: SimpleQueue[ChatEvent] = SimpleQueue()
        try:
            chat.ask(prompt, str(dialogue.asked), events.put)
            ends = show_pair(events.get, sides, names, text_width(), write)
            failed = [f"{name}: {end.reason}" for name, end in zip(names, ends, strict=True) if isinstance(end, Failed)]
            if failed:
                raise EngineError(f"there are no two answers to compare; {'; '.join(failed)}")
            texts = [end.answer.text for end in ends if not isinstance(end, Failed)]
            choice = self._choice(texts)
        except KeyboardInterrupt:
            write("\n")
            print_note("stopped; nothing is kept of the question")
            return None
        finally:
            chat.close()
        chosen = 1 if choice == "b" else 0  # after a tie the first one continues the conversation
        counted = choice if choice in "tn" else f"model {sides[chosen]}"
        self._tally[counted] += 1
        if choice == "n":
            print_result("nothing is kept of the question")
            return None
        pair = preference_row(prompt, texts[chosen], texts[1 - chosen]) if choice in "ab" else None
        return ChatTurn(question, texts[chosen], pair, counted)

    def take_back(self, exchange: ChatTurn) -> None:
        """Count the choice of an exchange no more."""
        self._tally[exchange.counted] -= 1

    def _choice(self, texts: list[str]) -> str:
        """a, b, t or n."""
        if texts[0] == texts[1]:
            print_result("\nthe answers are equal: a tie")
            return "t"
        write("\nbetter answer: a, b, t (tie) or n (none)? ")
        while True:
            for key in self._keys().lower():
                if key in ("a", "b", "t", "n"):
                    write(f"{key}\n")
                    return key
