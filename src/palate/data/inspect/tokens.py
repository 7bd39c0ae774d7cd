"""Lengths in the tokens of a model, counted a few hundred rows at a time."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from palate.data.inspect.inspection import Spread, TokenLengths
from palate.data.measures.pairs import completions, said
from palate.records import Messages, Record, TokenCounter

_BATCH = 256


class TokenLooker:
    """Counts the tokens of every record's prompt and completions."""

    def __init__(
        self, count: TokenCounter | None, render: Callable[[Messages], str] | None = None, cutoff_len: int = 2048
    ) -> None:
        """Args:
        count: counts tokens as the model does; without it nothing is counted.
        render: a conversation as the text the model would see; completions are counted as what they add to it.
        cutoff_len: longest prompt + completion, in tokens.
        """
        self._count = count
        self._render = render or said
        self._cutoff_len = cutoff_len
        self._waiting: list[Record] = []
        self._prompts, self._completions, self._rows = array("I"), array("I"), array("I")
        self._hopeless = 0
        self._over: list[str] = []

    def add(self, record: Record) -> None:
        """Takes a record; it is counted with the next few hundred."""
        if self._count is None:
            return
        self._waiting.append(record)
        if len(self._waiting) == _BATCH:
            self._flush()

    def lengths(self) -> TokenLengths | None:
        """All that was counted, None without a counter."""
        if self._count is None:
            return None
        self._flush()
        return TokenLengths(
            cutoff_len=self._cutoff_len,
            prompt=Spread.of(self._prompts),
            completion=Spread.of(self._completions),
            row=Spread.of(self._rows),
            over=len(self._over),
            hopeless=self._hopeless,
            total=sum(self._prompts) + sum(self._completions),
        )

    def over(self) -> list[str]:
        """Ids of the rows longer than `cutoff_len`."""
        return self._over

    def _flush(self) -> None:
        if not self._waiting or self._count is None:
            return
        # The prompt alone, then the prompt with each completion: templates add tokens that neither has on its own.
        texts = [
            self._render(messages)
            for record in self._waiting
            for messages in (record.prompt, *(record.prompt + completion for completion in completions(record)))
        ]
        counts = iter(self._count(texts))
        for record in self._waiting:
            prompt = next(counts)
            rows = [next(counts) for _ in completions(record)]
            self._prompts.append(prompt)
            self._rows.append(max([prompt, *rows]))
            added = [max(0, row - prompt) for row in rows]
            self._completions.extend(added)
            if max([prompt, *rows]) > self._cutoff_len:
                self._over.append(record.id)
                self._hopeless += max(added, default=0) > self._cutoff_len
        self._waiting.clear()
