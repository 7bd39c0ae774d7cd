"""How a question in the terminal is answered: by one model, or by two of which a person prefers one."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

import typer

from palate.cli.chat.pair import show_pair
from palate.cli.columns import text_width
from palate.cli.console import print_note, print_result
from palate.errors import EngineError
from palate.evaluation.table import printable
from palate.feedback.page.chat import AnswerStream, Chat, ChatEvent, Failed, Side
from palate.feedback.page.dialogue import Dialogue, Exchange
from palate.feedback.page.save import PreferenceFile, preference_row
from palate.models.generation.decoding import Decoding, sampling_seed

if TYPE_CHECKING:
    from palate.records import Answer

_KEYS = "a, b, t (tie) or n (none)"


def write(text: str) -> None:
    """Text of a model on stdout, at once; on a terminal without control characters."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


class Single:
    """`session.Answers` of one model. An answer that Ctrl-C stops stays in the conversation as far as it goes."""

    def __init__(self, model: AnswerStream) -> None:
        self._model = model

    def answer(self, dialogue: Dialogue, question: str) -> None:
        """See Answers."""
        pieces: list[str] = []

        def on_text(text: str) -> None:
            pieces.append(text)
            write(text)

        prompt = dialogue.prompt(question)
        answer: Answer | None = None
        try:
            seed = sampling_seed(dialogue.decoding.seed, dialogue.asked)
            answer = self._model.stream(prompt, dialogue.decoding, seed, on_text)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():  # of a pipe there is no next question
                raise
        write("\n")
        if answer is None:
            print_note("stopped")
        elif answer.finish_reason == "length":
            print_note(f"the answer is cut at {dialogue.decoding.max_new_tokens} tokens (--max-new-tokens)")
        text = answer.text if answer is not None else "".join(pieces)
        if text.strip():
            dialogue.exchanges.append(Exchange(question, text))

    def check(self, dialogue: Dialogue) -> None:
        """See Answers."""

    def undo(self, exchange: Exchange) -> None:
        """See Answers."""

    def close(self) -> None:
        """See Answers."""


class Compared:
    """`session.Answers` of two models. The preferred answer continues the conversation, and the pair is saved.

    Args:
        first, second: the models; may be one object twice.
        decoding: of the first question.
        file: that gets the pairs; None to save none.
        order: draws which answer is A, and the models are not named; without it the first model's is A.
        key: reads a key of the person.
    """

    def __init__(
        self,
        first: AnswerStream,
        second: AnswerStream,
        decoding: Decoding,
        file: PreferenceFile | None,
        order: random.Random | None,
        key: Callable[[], str] = typer.getchar,
    ) -> None:
        """Raises UsageError if the answers to every prompt would be equal."""
        self._models = first, second
        self._file, self._order, self._key = file, order, key
        self._tally: Counter[str] = Counter()
        Chat(first, second, decoding)

    def answer(self, dialogue: Dialogue, question: str) -> None:
        """See Answers."""
        chat = Chat(*self._models, dialogue.decoding)
        sides: tuple[Side, Side] = (1, 0) if self._order is not None and self._order.random() < 0.5 else (0, 1)
        names = ["A", "B"] if self._order else [f"{letter}: {self._models[side].name}" for letter, side in zip("AB", sides)]
        prompt = dialogue.prompt(question)
        events: SimpleQueue[ChatEvent] = SimpleQueue()
        try:
            chat.ask(prompt, str(dialogue.asked), events.put)
            ends = show_pair(events.get, sides, names, text_width(), write)
            failed = [f"{name}: {end.reason}" for name, end in zip(names, ends) if isinstance(end, Failed)]
            if failed:
                raise EngineError(f"there are no two answers to compare; {'; '.join(failed)}")
            texts = [end.answer.text for end in ends if not isinstance(end, Failed)]
            choice = self._choice(texts)
        except KeyboardInterrupt:
            print_result("")
            print_note("stopped; ask again")
            return
        finally:
            chat.close()
        self._keep(dialogue, Exchange(question, texts[1 if choice == "b" else 0]), choice, texts, sides)

    def _choice(self, texts: list[str]) -> str:
        if texts[0] == texts[1]:
            print_result("\nboth answers are equal: a tie")
            return "t"
        write(f"\nbetter answer: {_KEYS} ")
        while (key := self._key().lower()) not in ("a", "b", "t", "n"):
            pass
        write(f"{key}\n")
        return key

    def _keep(
        self, dialogue: Dialogue, exchange: Exchange, choice: str, texts: list[str], sides: tuple[Side, Side]
    ) -> None:
        """Continue with the chosen answer, the first one after a tie; after "none" the question is dropped."""
        if choice == "n":
            self._tally["none"] += 1
            print_result("the question is dropped; ask again")
            return
        winner = {"a": 0, "b": 1}.get(choice)
        self._tally["tie" if winner is None else f"model {sides[winner] + 1}"] += 1
        if winner is not None and self._file is not None:
            row = preference_row(dialogue.prompt(exchange.question), texts[winner], texts[1 - winner])
            self._file.change(None, row)
            exchange = replace(exchange, saved=row)
        dialogue.exchanges.append(exchange)

    def check(self, dialogue: Dialogue) -> None:
        """See Answers."""
        Chat(*self._models, dialogue.decoding)

    def undo(self, exchange: Exchange) -> None:
        """See Answers."""
        if exchange.saved is not None and self._file is not None:
            self._file.change(exchange.saved, None)

    def close(self) -> None:
        """Say how often each model was preferred."""
        if self._tally:
            won = [f"{model.name} {self._tally[f'model {number}']}" for number, model in enumerate(self._models, 1)]
            print_result(f"preferred: {', '.join(won)}; ties {self._tally['tie']}, none {self._tally['none']}")
        if self._file is not None:
            print_result(str(self._file.path))
