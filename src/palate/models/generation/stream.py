"""One answer of a model in this process, whose text is passed on while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from palate.models.generation.decoding import Decoding
from palate.models.generation.generate import generate
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
        tools: as in `Record`.

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

    Args:
        decode: the text of all ids so far, without markup.
        end_of_turn: text at which `decode` cuts; a part of it at the end of a text is not passed on.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], end_of_turn: str) -> None:
        self._decode = decode
        self._end = end_of_turn
        self._ids: list[int] = []
        self._passed = ""

    def add(self, token: int) -> str:
        """The new text after one more token, "" if it is not settled yet."""
        self._ids.append(token)
        return self._new(self._settled(self._decode(self._ids)))

    def rest(self) -> str:
        """The text that was held back, once the answer has ended."""
        return self._new(self._decode(self._ids))

    def _settled(self, text: str) -> str:
        text = text.rstrip(_INCOMPLETE)
        begun = (n for n in range(min(len(self._end) - 1, len(text)), 0, -1) if text.endswith(self._end[:n]))
        text = text[: len(text) - next(begun, 0)]
        # `decode` removes white space before the end of the turn.
        return text.rstrip()

    def _new(self, text: str) -> str:
        if not text.startswith(self._passed):
            return ""
        piece, self._passed = text[len(self._passed) :], text
        return piece
