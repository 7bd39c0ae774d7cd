"""One answer of a model in this process, whose text is passed on while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.precision import Precision
from palate.records import Answer, Messages
from palate.text.template import Template

_INCOMPLETE = "\ufffd"  # what a decoder writes for the first bytes of a character


def stream(
    model: Any,
    template: Template,
    prompt: Messages,
    decoding: Decoding,
    seed: int,
    on_text: Callable[[str], None],
    *,
    precision: Precision,
    tools: str | None = None,
) -> Answer:
    """The answer that `generate` gives with this seed; `on_text` gets each new piece of its text, at every token.

    A piece may be empty, so that `on_text` can end the generation at any token. The joined pieces are the answer's
    text. A tokenizer with byte fallback may decode a character that the token limit cuts in another way than before;
    then the returned text is the right one.

    Args:
        model: as in `generate`; no other thread may use it at the same time.
        on_text: what it raises ends the generation and is raised here.

    Raises:
        DataError: the chat template refuses the prompt, or the prompt is too long.
    """
    pieces = TextPieces(template.decode, template.end_of_turn)
    on_text("")  # a caller that has gone needs no prefill
    (ids,) = generate(
        model,
        [template.generation_prompt(prompt, tools=tools)],
        decoding,
        stop_ids=template.stop_ids,
        precision=precision,
        seeds=[seed],
        on_token=lambda _, token: on_text(pieces.add(token)),
    )
    on_text(pieces.rest())
    return template.answer(ids)


class TextPieces:
    """Splits the text of growing token ids into pieces that do not change any more.

    Attributes:
        stopped: whether the text has reached one of `stops`; it ends before that.

    Args:
        decode: the text of all ids so far, without markup.
        end_of_turn: text at which `decode` cuts; a part of it at the end of a text is not passed on.
        stops: further texts that end the answer.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], end_of_turn: str, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self._ends = (end_of_turn, *stops)
        self._ids: list[int] = []
        self._passed = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The new text after one more token, "" if it is not settled yet."""
        self._ids.append(token)
        text = self._text()
        return self._new(text if self.stopped else self._settled(text))

    def rest(self) -> str:
        """The text that was held back, once the answer has ended."""
        return self._new(self._text())

    def _text(self) -> str:
        text = self._decode(self._ids)
        found = [text.index(stop) for stop in self._stops if stop in text]
        self.stopped = self.stopped or bool(found)
        return text[: min(found, default=len(text))]

    def _settled(self, text: str) -> str:
        text = text.rstrip(_INCOMPLETE)
        begun = (n for end in self._ends for n in range(1, min(len(end), len(text) + 1)) if text.endswith(end[:n]))
        text = text[: len(text) - max(begun, default=0)]
        # `decode` removes white space before the end of the turn.
        return text.rstrip()

    def _new(self, text: str) -> str:
        if not text.startswith(self._passed):
            return ""
        piece, self._passed = text[len(self._passed) :], text
        return piece
