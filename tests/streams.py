"""Models of a few lines that stream answers, in place of loaded ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from palate.models.generation.decoding import Decoding
from palate.records import Answer, Messages


class Fake:
    """Pieces of text, then an end; or what `write` makes of the conversation."""

    def __init__(
        self,
        *pieces: str,
        name: str = "a",
        identity: str | None = None,
        reason: str = "stop",
        fails: Exception | None = None,
        write: Callable[[Messages], str] | None = None,
    ) -> None:
        self.name, self.identity, self.pieces, self.reason, self.fails = name, identity, pieces, reason, fails
        self.write = write
        self.prompts: list[Messages] = []
        self.seeds: list[int] = []
        self.left = threading.Event()

    def stream(self, prompt: Messages, decoding: Decoding, seed: int, on_text: Callable[[str], None]) -> Answer:
        self.prompts.append(prompt)
        self.seeds.append(seed)
        pieces = self.pieces if self.write is None else tuple(self.write(prompt).partition(" "))
        try:
            for piece in pieces:
                on_text(piece)
            if self.fails is not None:
                raise self.fails
            return Answer("".join(pieces), self.reason, len(pieces))
        finally:
            self.left.set()


class Endless(Fake):
    """Writes until it is stopped."""

    def stream(self, prompt: Messages, decoding: Decoding, seed: int, on_text: Callable[[str], None]) -> Answer:
        try:
            while True:
                on_text("on ")
                time.sleep(0.001)
        finally:
            self.left.set()
