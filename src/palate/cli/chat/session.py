"""The loop of a chat in the terminal: questions, and commands that begin with a slash."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace

from palate.cli.chat.answers import Compared, Dialogue, Single
from palate.cli.columns import two_columns
from palate.cli.console import print_error, print_result
from palate.errors import PalateError, UsageError
from palate.feedback.page.save import PreferenceFile, PreferenceRow

_COMMANDS = (
    ("/system TEXT", "set the system prompt; without TEXT remove it"),
    ("/temperature N", "set the sampling temperature; 0 takes the likeliest token"),
    ("/undo", "take the last question and its answer back, and the pair that was saved of it"),
    ("/reset", "forget the conversation; the system prompt stays"),
    ("/exit", "end the chat, as Ctrl-C or Ctrl-D"),
    ("/help", "show this list"),
)


class ChatSession:
    """A chat until its end.

    Args:
        file: gets the pairs, each before the next question; None to save none.
        ask: the next line of the person, as `input`.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        answers: Single | Compared,
        file: PreferenceFile | None = None,
        ask: Callable[[str], str] = input,
    ) -> None:
        self._dialogue, self._answers, self._file, self._ask = dialogue, answers, file, ask

    def run(self) -> None:
        """Answer until /exit, Ctrl-C or the end of the input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - `input` edits lines and has a history with it
        print_result("Write a message, or /help for the commands.")
        while True:
            try:
                line = self._ask("\n> ").strip()
            except (EOFError, KeyboardInterrupt):
                print_result("")
                break
            if line == "/exit":
                break
            try:
                if line.startswith("/"):
                    self._command(*line.split(maxsplit=1))
                elif line:
                    self._question(line)
            except PalateError as error:
                print_error(str(error))
        if self._answers.summary:
            print_result(self._answers.summary)

    def _question(self, question: str) -> None:
        exchange = self._answers.answer(self._dialogue, question)
        if exchange is not None:
            self._dialogue.exchanges.append(exchange)
            self._save(None, exchange.pair)

    def _save(self, before: PreferenceRow | None, after: PreferenceRow | None) -> None:
        if self._file is not None:
            self._file.change(before, after)

    def _command(self, name: str, value: str = "") -> None:
        dialogue = self._dialogue
        match name:
            case "/help":
                print_result(two_columns(_COMMANDS, indent=0))
            case "/system":
                dialogue.system = value.strip() or None
                print_result("the system prompt is " + ("set" if dialogue.system else "removed"))
            case "/temperature":
                self._set_temperature(value)
            case "/reset":
                dialogue.exchanges.clear()
                print_result("the conversation is empty")
            case "/undo":
                if not dialogue.exchanges:
                    raise UsageError("there is nothing to take back")
                exchange = dialogue.exchanges.pop()
                self._answers.take_back(exchange)
                self._save(exchange.pair, None)
                print_result(f"taken back: {exchange.question.splitlines()[0]}")
            case _:
                raise UsageError(f"{name} is no command; /help lists them")

    def _set_temperature(self, value: str) -> None:
        before = self._dialogue.decoding
        try:
            number = float(value) if value else before.temperature
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise UsageError(f"/temperature {value}: write a number from 0, as /temperature 0.7")
        self._dialogue.decoding = replace(before, temperature=number)
        print_result(f"the temperature is {number:g}")
