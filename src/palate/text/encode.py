"""Encodes records as token ids: one prompt, K completions, and a mask of the trained tokens.

The renderings of a batch of records are tokenised in one call, with offsets, by the tokenizer's own threads. A group's
prompt is the longest token prefix that its completions share and that ends at or before the boundary, the character at
which generation would begin. Masks come from the turns' character spans in the text, never from token ids.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from palate.errors import DataError
from palate.records import AnyRecord, Dropped, Message, Messages, completions_of
from palate.text.groups import Cut, Encoded, EncodedGroup, EncodingStats
from palate.text.prompts import cut_left, without_oldest_turn
from palate.text.rendering import Renderer, Rendering
from palate.text.template import Template
from palate.text.tokens import make_group

# Enough texts to keep the tokenizer's threads busy; their encodings take about 100 bytes a token while they exist.
_BATCH = 64

Truncation = Literal["auto", "drop"]


def encode_records(
    records: Iterable[AnyRecord], template: Template, *, cutoff_len: int | None = None, truncation: Truncation = "auto"
) -> Encoded:
    """Encode records of any kind with a chat template.

    Args:
        cutoff_len: maximum number of tokens of prompt + completion; None for no limit.
        truncation: how to shorten longer rows. `auto` removes the oldest whole turns of the prompt (system text
            stays), then prompt tokens from the left (BOS stays), and drops the row if an answer still does not fit.
            `drop` drops the row at once. Answers are never shortened.

    Returns:
        The groups, the dropped records, the shortened rows, and counts.
    """
    groups: list[EncodedGroup] = []
    done = Encoded([], [], [], EncodingStats())
    for part in encode_batches(records, template, cutoff_len=cutoff_len, truncation=truncation):
        groups.extend(part.groups)
        done = done.with_counts(part)
    return replace(done, groups=groups)


def encode_batches(
    records: Iterable[AnyRecord], template: Template, *, cutoff_len: int | None = None, truncation: Truncation = "auto"
) -> Iterator[Encoded]:
    """`encode_records` a few records at a time, in order."""
    encoder = _Encoder(template, cutoff_len, truncation)
    waiting = iter(records)
    while batch := list(islice(waiting, _BATCH)):
        yield encoder(batch)


def encode_record(
    record: AnyRecord, template: Template, *, cutoff_len: int | None = None, truncation: Truncation = "auto"
) -> EncodedGroup | Dropped:
    """Encode one record like `encode_records`; returns its group, or why it was dropped."""
    encoded = _Encoder(template, cutoff_len, truncation)([record])
    return encoded.groups[0] if encoded.groups else encoded.dropped[0]


@dataclass(slots=True)
class _Row:
    """One record while it is encoded.

    Attributes:
        prompt: the record's prompt, or its remaining turns.
        completions: the record's completions, without end-of-turn texts that the data contains.
        ends_removed: the number of end-of-turn texts removed.
        result: the group, of any length, or why the record was dropped.
        rewritten: number of renderings in which the template changed a content.
        turns_removed: number of turns removed from the start of the prompt.
    """

    record: AnyRecord
    prompt: Messages
    completions: Sequence[Messages]
    ends_removed: int
    result: EncodedGroup | Dropped | None = None
    rewritten: int = 0
    turns_removed: int = 0


class _Encoder:
    """Encodes batches of records; the renderer caches the template's structure across batches."""

    def __init__(self, template: Template, cutoff_len: int | None, truncation: Truncation) -> None:
        self.template = template
        self.limit = sys.maxsize if cutoff_len is None else cutoff_len
        self.truncation = truncation
        self._renderer = Renderer(template)
        self._ends = tuple({template.end_of_turn, str(template.tokenizer.eos_token or template.end_of_turn)})
        self._special = template.special_text()

    def __call__(self, records: Sequence[AnyRecord]) -> Encoded:
        """Encode one batch."""
        rows = [_Row(record, record.prompt, *_without_ends(completions_of(record), self._ends)) for record in records]
        self._encode(rows)
        over = [row for row in rows if self._too_long(row.result)]
        cuts = self._shorten(over)
        stats = EncodingStats(
            records=len(rows),
            over_length=len(over),
            ends_removed=sum(row.ends_removed for row in rows),
            rewritten=sum(row.rewritten for row in rows),
            control_text=sum(self._spells_special(row) for row in rows),
            reasoning_differs=sum(_reasoning_differs(row.completions) for row in rows),
        )
        results = [row.result for row in rows]
        changed = [row.record for row in over] + [row.record for row in rows if isinstance(row.result, Dropped)]
        return Encoded(
            [result for result in results if isinstance(result, EncodedGroup)],
            [result for result in results if isinstance(result, Dropped)],
            cuts,
            stats,
            {record.id: record.source for record in changed},
        )

    def _encode(self, rows: Sequence[_Row]) -> None:
        """Render and tokenise the rows; sets `result` of each, of any length."""
        rendered = [self._render(row) for row in rows]
        texts = [chat.text for renderings in rendered if not isinstance(renderings, Dropped) for chat in renderings]
        encodings = iter(self.template.tokenize(texts))
        for row, renderings in zip(rows, rendered, strict=True):
            if isinstance(renderings, Dropped):
                row.result = renderings
            else:
                row.result = make_group(row.record, renderings, list(islice(encodings, len(renderings))))
                row.rewritten = sum(chat.rewritten for chat in renderings)

    def _render(self, row: _Row) -> list[Rendering] | Dropped:
        try:
            return [self._renderer(row.prompt, completion, row.record.tools) for completion in row.completions]
        except DataError as error:
            return Dropped(row.record.id, "template_refused", str(error))

    def _too_long(self, result: EncodedGroup | Dropped | None) -> bool:
        return isinstance(result, EncodedGroup) and result.longest_row > self.limit

    def _spells_special(self, row: _Row) -> bool:
        messages = (message for part in (row.record.prompt, *row.completions) for message in part)
        return any(self._special.search(message.text) for message in messages)

    def _shorten(self, over: Sequence[_Row]) -> list[Cut]:
        """Shorten or drop the rows that are too long; returns a `Cut` for each shortened row."""
        lengths = [row.result.longest_row for row in over if isinstance(row.result, EncodedGroup)]
        if self.truncation == "auto":
            self._remove_turns(over)
        cuts = []
        for row, length in zip(over, lengths, strict=True):
            if isinstance(row.result, EncodedGroup) and self._too_long(row.result):
                row.result = self._cut_prompt(row.result)
            if isinstance(row.result, EncodedGroup):
                cuts.append(Cut(row.record.id, length - row.result.longest_row, row.turns_removed))
        return cuts

    def _remove_turns(self, rows: Sequence[_Row]) -> None:
        """Remove the oldest turn of each row's prompt until the row fits or only the last turn is left."""
        waiting = [row for row in rows if self._answers_fit(row)]
        while waiting:
            shorter_prompts = [(row, without_oldest_turn(row.prompt)) for row in waiting]
            tried = [(row, replace(row, prompt=prompt)) for row, prompt in shorter_prompts if prompt is not None]
            self._encode([shorter for _, shorter in tried])
            waiting = []
            for row, shorter in tried:
                if isinstance(shorter.result, EncodedGroup):
                    row.prompt, row.result, row.turns_removed = shorter.prompt, shorter.result, row.turns_removed + 1
                    if self._too_long(row.result):
                        waiting.append(row)

    def _answers_fit(self, row: _Row) -> bool:
        """Whether a shorter prompt helps: every completion leaves space for at least one prompt token."""
        group = row.result
        return isinstance(group, EncodedGroup) and group.longest_row - len(group.prompt_ids) < self.limit

    def _cut_prompt(self, group: EncodedGroup) -> EncodedGroup | Dropped:
        """The group with its prompt shortened from the left to fit, or the drop reason `too_long`."""
        longest = group.longest_row - len(group.prompt_ids)
        if self.truncation == "auto":
            ids = cut_left(group.prompt_ids, self.limit - longest, self.template.tokenizer.bos_token_id)
            if ids is not None:
                return replace(group, prompt_ids=ids)
        detail = f"prompt {len(group.prompt_ids)} + longest completion {longest} tokens, cutoff_len {self.limit}"
        return Dropped(group.id, "too_long", detail)


def _reasoning_differs(completions: Sequence[Messages]) -> bool:
    """Whether only some of the answers have reasoning (as a field or in the text)."""
    return len({any(map(_has_reasoning, completion)) for completion in completions}) > 1


def _has_reasoning(message: Message) -> bool:
    return message.reasoning_content is not None or message.content.startswith("<think>")


def _without_ends(completions: Sequence[Messages], ends: Sequence[str]) -> tuple[list[Messages], int]:
    """The completions without end-of-turn texts at the end of answers, and the number of texts removed.

    Some datasets contain the markup of the model that wrote them; the template would write it a second time.
    """
    cleaned = []
    removed = 0
    for completion in completions:
        messages = []
        for message in completion:
            content = message.content
            while message.role == "assistant" and content.rstrip().endswith(tuple(ends)):
                end = next(end for end in ends if content.rstrip().endswith(end))
                content = content.rstrip().removesuffix(end)
                removed += 1
            messages.append(message if content is message.content else replace(message, content=content))
        cleaned.append(tuple(messages))
    return cleaned, removed
